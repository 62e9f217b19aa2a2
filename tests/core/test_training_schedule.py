"""The learning rate, against its own formula and against torch's schedulers."""

import math

import pytest
import torch

from vlv_core.errors import ConfigError
from vlv_core.training.options import TrainOptions
from vlv_core.training.schedule import learning_rate


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ("constant", 0, 1.0),
        ("constant", 99, 1.0),
        ("linear", 0, 1.0),
        ("linear", 50, 0.5),
        ("linear", 99, 0.01),
        ("linear", 100, 0.0),
        ("cosine", 0, 1.0),
        ("cosine", 50, 0.5),
        ("cosine", 99, 0.5 * (1 + math.cos(math.pi * 0.99))),
        ("cosine", 100, 0.0),
    ],
)
def test_table(schedule: str, step: int, expected: float) -> None:
    rate = learning_rate(step, peak=1.0, steps=100, schedule=schedule)  # type: ignore[arg-type]
    assert rate == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (7, 3), (200, 0), (1000, 100)])
def test_never_rises_after_the_warm_up_and_ends_with_training(
    schedule: str, steps: int, warmup: int
) -> None:
    rates = [
        learning_rate(s, peak=3e-4, steps=steps, schedule=schedule, warmup_steps=warmup)  # type: ignore[arg-type]
        for s in range(steps + 1)
    ]
    assert all(rate > 0 for rate in rates[:steps]), "no update is wasted"
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert max(rates) == pytest.approx(3e-4)
    assert schedule == "constant" or rates[steps] == pytest.approx(0, abs=1e-18)


def test_cosine_is_torch_s() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    for step in range(50):
        ours = learning_rate(step, peak=0.2, steps=50, schedule="cosine")
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        reference.step()


def test_warm_up_reaches_the_peak_at_its_last_step() -> None:
    rates = [
        learning_rate(s, peak=1.0, steps=10, schedule="linear", warmup_steps=4) for s in range(5)
    ]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_options_refuse_what_makes_no_sense() -> None:
    with pytest.raises(ConfigError, match=r"warmup_steps is 10, but the whole training has 10"):
        TrainOptions(steps=10, batch=1, lr=1e-3, warmup_steps=10)
    with pytest.raises(ConfigError, match=r"batch is 0, but must be at least 1"):
        TrainOptions(steps=10, batch=0, lr=1e-3)
    with pytest.raises(ConfigError, match=r"ema is 1\.0, but must lie in \[0, 1\)"):
        TrainOptions(steps=10, batch=1, lr=1e-3, ema=1.0)
