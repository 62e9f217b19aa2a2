"""Times, levels and schedules as scheduler_config.json has them."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from tests.plugins.stable_diffusion.tiny import scheduler
from vlv_core.errors import ConfigError
from vlv_core.sampling import timesteps
from vlv_plugins.stable_diffusion._noise import Discrete, Flow, process

FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"beta_schedule": "linear"},
        {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 50},
        {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
        {"trained_betas": [0.1, 0.2, 0.3]},
    ],
)
def test_levels_are_the_schedulers(more: dict[str, Any]) -> None:
    table = scheduler() | more
    made = process(table)
    due = DDIMScheduler.from_config(table)
    assert isinstance(made, Discrete) and torch.equal(made.alphas_cumprod, due.alphas_cumprod)
    signal, weight = made.levels(torch.arange(made.train_steps))
    torch.testing.assert_close(signal.square().flatten(), due.alphas_cumprod)
    torch.testing.assert_close(signal.square() + weight.square(), torch.ones_like(signal))


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [1, 7, 25])
def test_drawing_takes_the_schedulers_times(spacing: str, steps: int) -> None:
    table = scheduler("v_prediction") | {"timestep_spacing": spacing}
    schedule = process(table).schedule()
    due = DDIMScheduler.from_config(table)
    due.set_timesteps(steps)
    assert timesteps(schedule, steps).tolist() == due.timesteps.tolist()
    assert not schedule.set_alpha_to_one and schedule.spacing == spacing


def test_flow_draws_with_the_schedulers_times() -> None:
    due = FlowMatchEulerDiscreteScheduler(shift=3.0)
    due.set_timesteps(10)
    np.testing.assert_allclose(
        timesteps(process(FLOW).schedule(), 10), due.timesteps.numpy(), rtol=1e-5
    )


def test_discrete_times_are_uniform_over_the_whole_schedule() -> None:
    u = (torch.arange(5000) + 0.5) / 5000
    t = process(scheduler()).timesteps(u)
    assert t.dtype == torch.int64
    assert torch.bincount(t).tolist() == [5] * 1000


def test_the_largest_u_stays_in_the_schedule() -> None:
    below = torch.nextafter(torch.tensor([1.0]), torch.tensor([0.0]))
    assert process(scheduler()).timesteps(below).tolist() == [999]


def test_uniform_flow_times_are_the_schedulers_shifted_levels() -> None:
    flow = process(FLOW, times="uniform")
    k = torch.arange(1, 1001)
    u = (k / 1000).clamp(max=1 - 1e-7)
    due = FlowMatchEulerDiscreteScheduler(shift=3.0).timesteps.flip(0)
    torch.testing.assert_close(flow.timesteps(u), due, atol=2e-3, rtol=1e-5)


def test_logit_normal_flow_times_have_the_papers_median_and_quartiles() -> None:
    """Before the shift, the logit is standard normal (arXiv 2403.03206, section 3.1)."""
    flow = process(FLOW | {"shift": 1.0})
    u = torch.tensor([0.5, 0.8413447, 0.1586553])
    due = 1000 * torch.sigmoid(torch.tensor([0.0, 1.0, -1.0]))
    torch.testing.assert_close(flow.timesteps(u), due, atol=1e-2, rtol=1e-4)
    shifted = process(FLOW).timesteps(torch.tensor([0.5]))
    torch.testing.assert_close(shifted, torch.tensor([750.0]))


def test_extreme_draws_stay_finite() -> None:
    times = process(FLOW).timesteps(torch.tensor([0.0, 1 - 1e-7]))
    assert torch.isfinite(times).all() and times.min() >= 0 and times.max() <= 1000


def test_works_on_the_meta_device() -> None:
    with torch.device("meta"):
        schedule = process(scheduler()).schedule()
    assert schedule == process(scheduler()).schedule()


def test_kinds() -> None:
    assert isinstance(process({"_class_name": "PNDMScheduler"}), Discrete)
    assert isinstance(process(FLOW), Flow)


def test_unknown_schedulers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"scheduler: 'EDMEulerScheduler' is not supported.*DDIM"):
        process({"_class_name": "EDMEulerScheduler"})
    with pytest.raises(ConfigError, match=r"prediction_type: 'sample' is not supported"):
        process(scheduler("sample"))
    with pytest.raises(ConfigError, match="use_dynamic_shifting is not supported"):
        process(FLOW | {"use_dynamic_shifting": True})
