"""The denoising loop against diffusers' schedulers, and against distributions known exactly."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vlv_core.errors import UsageError, VlvError
from vlv_core.sampling import Predict, Schedule, Spacing, guided, sample, timesteps
from vlv_core.specs import Prediction

# A busy machine must not fail a test.
PATIENT = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
LATENT = (4, 6, 6)
RNG = np.random.Generator(np.random.Philox(1))
NOISE = RNG.standard_normal((2, *LATENT), dtype=np.float32)
WEIGHTS = RNG.standard_normal((4, 4), dtype=np.float32) / 2


def stable_diffusion_alphas(total: int = 1000) -> NDArray[np.float64]:
    """Stable Diffusion's "scaled_linear" betas."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, total) ** 2
    return np.cumprod(1 - betas)


ALPHAS = stable_diffusion_alphas()


def toy(latents: NDArray[Any], t: NDArray[Any], conditional: bool) -> NDArray[Any]:
    """A network of a kind: mixes channels, bends, and feels time and condition."""
    mixed = np.einsum("oc,bchw->bohw", WEIGHTS, latents)
    time = np.sin(t / 300).astype(np.float32)[:, None, None, None]
    return np.tanh(mixed + time + (0.3 if conditional else 0)).astype(np.float32)


def by_diffusers(
    scheduler: Any, times: Any, *, predict: Predict = toy, guidance: float = 1.0
) -> NDArray[Any]:
    """The loop as a diffusers pipeline writes it."""
    import torch

    latents = torch.from_numpy(NOISE)
    for time in times:
        t = np.full(len(NOISE), time.item())
        yes = torch.from_numpy(predict(latents.numpy(), t, True))
        no = torch.from_numpy(predict(latents.numpy(), t, False))
        answer = no + guidance * (yes - no)
        latents = scheduler.step(answer, time, latents).prev_sample
    return latents.numpy()


def ddim(
    prediction: Prediction, spacing: Spacing, *, offset: int = 0, to_one: bool = True, **more: Any
) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type={"epsilon": "epsilon", "v": "v_prediction"}[prediction],
        timestep_spacing=spacing,
        steps_offset=offset,
        set_alpha_to_one=to_one,
        **more,
    )


def close(ours: NDArray[Any], theirs: NDArray[Any]) -> None:
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("to_one", [True, False])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("steps", [1, 7, 25])
def test_ddim_is_diffusers(
    prediction: Prediction, spacing: Spacing, to_one: bool, steps: int
) -> None:
    offset = 1 if spacing == "leading" else 0
    scheduler = ddim(prediction, spacing, offset=offset, to_one=to_one)
    scheduler.set_timesteps(steps)
    schedule = Schedule(
        prediction=prediction,
        alphas_cumprod=ALPHAS,
        spacing=spacing,
        steps_offset=offset,
        set_alpha_to_one=to_one,
    )
    ours = sample(toy, noise=NOISE, schedule=schedule, steps=steps, guidance=1.0)
    close(ours, by_diffusers(scheduler, scheduler.timesteps))


def test_ddim_is_diffusers_from_zero_terminal_signal() -> None:
    scheduler = ddim("v", "trailing", rescale_betas_zero_snr=True)
    scheduler.set_timesteps(10)
    schedule = Schedule(prediction="v", alphas_cumprod=scheduler.alphas_cumprod.numpy())
    ours = sample(toy, noise=NOISE, schedule=schedule, steps=10, guidance=1.0)
    close(ours, by_diffusers(scheduler, scheduler.timesteps))


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0, 3.0, 7.5])
def test_guidance_is_diffusers(guidance: float) -> None:
    scheduler = ddim("epsilon", "leading", offset=1)
    scheduler.set_timesteps(10)
    schedule = Schedule(
        prediction="epsilon", alphas_cumprod=ALPHAS, spacing="leading", steps_offset=1
    )
    ours = sample(toy, noise=NOISE, schedule=schedule, steps=10, guidance=guidance)
    close(ours, by_diffusers(scheduler, scheduler.timesteps, guidance=guidance))


@pytest.mark.parametrize("shift", [1.0, 3.0, 0.5])
@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
@pytest.mark.parametrize("steps", [1, 8, 28])
def test_euler_is_diffusers(spacing: Spacing, shift: float, steps: int) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    # Flux hands its own levels over; Stable Diffusion 3 takes the scheduler's.
    levels = list(np.linspace(1, 1 / steps, steps)) if spacing == "trailing" else None
    scheduler.set_timesteps(None if levels else steps, sigmas=levels)
    schedule = Schedule(prediction="flow", shift=shift, spacing=spacing)
    np.testing.assert_allclose(timesteps(schedule, steps), scheduler.timesteps, rtol=1e-6)
    ours = sample(toy, noise=NOISE, schedule=schedule, steps=steps, guidance=1.0)
    close(ours, by_diffusers(scheduler, scheduler.timesteps))


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_every_spacing_is_diffusers(spacing: Spacing) -> None:
    schedule = Schedule(prediction="v", alphas_cumprod=ALPHAS, spacing=spacing)
    scheduler = ddim("v", spacing)
    for steps in range(1, 1001):
        scheduler.set_timesteps(steps)
        # For some steps rounding makes diffusers run one too far: to time -1, from the end.
        np.testing.assert_array_equal(timesteps(schedule, steps), scheduler.timesteps[:steps])


def test_times_are_integers_for_ddim_and_floats_for_flow() -> None:
    seen = []

    def spy(latents: NDArray[Any], t: NDArray[Any], conditional: bool) -> NDArray[Any]:
        seen.append(t)
        return latents

    ddim_schedule = Schedule(prediction="v", alphas_cumprod=ALPHAS)
    for schedule in (ddim_schedule, Schedule(prediction="flow", train_steps=10)):
        sample(spy, noise=NOISE, schedule=schedule, steps=2, guidance=1.0)
    assert [t.dtype for t in seen] == [np.int64, np.int64, np.float32, np.float32]
    assert [t.tolist() for t in seen] == [[999, 999], [499, 499], [10, 10], [5, 5]]


# A picture x0 ~ N(MEAN, SPREAD^2) has a perfect denoiser in closed form: with x = c x0 + d n,
# E[x0 | x] = MEAN + c SPREAD^2 (x - c MEAN) / (c^2 SPREAD^2 + d^2). The sampler's map from noise to
# picture is then affine, so two noises give the whole distribution that it draws from.
MEAN = 0.7


def perfect(prediction: Prediction, spread: float) -> Predict:
    def predict(x: NDArray[Any], t: NDArray[Any], conditional: bool) -> NDArray[Any]:
        if prediction == "flow":
            signal, noise = 1 - t / 1000, t / 1000
        else:
            signal, noise = np.sqrt(ALPHAS[t]), np.sqrt(1 - ALPHAS[t])
        signal, noise = signal[:, None], noise[:, None]
        gain = signal * spread**2 / (signal**2 * spread**2 + noise**2)
        picture = MEAN + gain * (x - signal * MEAN)
        drawn = (x - signal * picture) / noise
        answers = {
            "epsilon": drawn,
            "v": signal * drawn - noise * picture,
            "flow": drawn - picture,
        }
        return answers[prediction].astype(np.float32)

    return predict


def drawn_from(prediction: Prediction, spread: float, steps: int) -> tuple[float, float]:
    """Mean and standard deviation of what is sampled."""
    alphas = () if prediction == "flow" else ALPHAS
    schedule = Schedule(prediction=prediction, alphas_cumprod=alphas)
    at_zero, at_one = sample(
        perfect(prediction, spread),
        noise=np.array([[0], [1]], np.float32),
        schedule=schedule,
        steps=steps,
        guidance=1.0,
    )[:, 0]
    return at_zero, at_one - at_zero


@pytest.mark.parametrize("prediction", ["epsilon", "v", "flow"])
def test_a_known_distribution_is_drawn(prediction: Prediction) -> None:
    mean, spread = drawn_from(prediction, 0.5, 1000)
    # Stable Diffusion's last noise level keeps some signal, sqrt(a_T) = 0.068; pure noise has none.
    slack = 0.002 if prediction == "flow" else 0.05
    assert mean == pytest.approx(MEAN, abs=slack)
    assert spread == pytest.approx(0.5, abs=slack)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "flow"])
@pytest.mark.parametrize("steps", [1, 5, 50])
def test_one_single_picture_is_drawn_exactly_in_any_number_of_steps(
    prediction: Prediction, steps: int
) -> None:
    mean, spread = drawn_from(prediction, 0.0, steps)
    assert mean == pytest.approx(MEAN, abs=2e-4)
    assert spread == pytest.approx(0, abs=2e-4)


def test_the_error_of_euler_halves_as_steps_double() -> None:
    errors = [abs(drawn_from("flow", 0.5, steps)[1] - 0.5) for steps in (50, 100, 200)]
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.1)
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    ("guidance", "branches"), [(1.0, [True]), (0.0, [False]), (2.0, [True, False])]
)
def test_no_branch_is_computed_for_nothing(guidance: float, branches: list[bool]) -> None:
    asked = []

    def spy(latents: NDArray[Any], t: NDArray[Any], conditional: bool) -> NDArray[Any]:
        asked.append((len(latents), conditional))
        return toy(latents, t, conditional)

    schedule = Schedule(prediction="flow")
    sample(spy, noise=NOISE, schedule=schedule, steps=3, guidance=guidance)
    assert asked == [(2, branch) for branch in branches] * 3


def test_a_sample_is_the_same_alone_and_in_a_batch() -> None:
    schedule = Schedule(prediction="epsilon", alphas_cumprod=ALPHAS)

    def run(noise: NDArray[Any]) -> NDArray[Any]:
        return sample(toy, noise=noise, schedule=schedule, steps=5, guidance=2.0)

    np.testing.assert_allclose(run(NOISE)[1:], run(NOISE[1:]), rtol=1e-6, atol=1e-6)
    assert run(NOISE[:0]).shape == (0, *LATENT)


def test_noise_is_left_as_it_was() -> None:
    before = NOISE.copy()
    sample(toy, noise=NOISE, schedule=Schedule(prediction="flow"), steps=3, guidance=1.0)
    np.testing.assert_array_equal(before, NOISE)


@given(st.floats(-5, 5, width=32), st.floats(-5, 5, width=32), st.floats(0, 20))
@PATIENT
def test_guided_moves_along_the_line_from_unconditional(
    yes: float, no: float, guidance: float
) -> None:
    conditional, unconditional = np.array([yes], np.float32), np.array([no], np.float32)
    expected = (1 - guidance) * no + guidance * yes
    assert guided(conditional, unconditional, guidance)[0] == pytest.approx(expected, abs=1e-3)
    assert guided(conditional, conditional, guidance)[0] == conditional[0]


@given(st.sampled_from(["leading", "trailing"]), st.integers(1, 200), st.integers(1, 200))
@PATIENT
def test_ddim_times_fall_within_the_schedule(spacing: Spacing, total: int, steps: int) -> None:
    schedule = Schedule(
        prediction="v", alphas_cumprod=np.linspace(0.99, 0.01, total), spacing=spacing
    )
    times = timesteps(schedule, min(steps, total))
    assert times.size == min(steps, total)
    assert times.min() >= 0 and times.max() < total
    assert (np.diff(times) < 0).all()


@given(st.sampled_from(["linspace", "trailing"]), st.integers(1, 100), st.floats(0.1, 10))
@PATIENT
def test_flow_times_fall_from_the_top(spacing: Spacing, steps: int, shift: float) -> None:
    times = timesteps(Schedule(prediction="flow", spacing=spacing, shift=shift), steps)
    assert times[0] == 1000 and times[-1] > 0
    assert (np.diff(times) < 0).all()


def test_a_schedule_is_a_value() -> None:
    one, other = (Schedule(prediction="v", alphas_cumprod=list(ALPHAS)) for _ in range(2))
    assert one == other and hash(one) == hash(other)
    assert one.train_steps == 1000


BAD_SCHEDULES = [
    ({"prediction": "x0"}, "no prediction named 'x0'; use epsilon, v or flow"),
    ({"prediction": "v"}, "v prediction needs the model's alphas_cumprod"),
    ({"prediction": "flow", "alphas_cumprod": [0.5]}, "a flow schedule has no alphas_cumprod"),
    ({"prediction": "flow", "spacing": "leading"}, "flow has no 'leading' spacing"),
    ({"prediction": "flow", "shift": 0.0}, "shift 0.0; both are above 0"),
    ({"prediction": "flow", "train_steps": 0}, "train_steps is 0 and"),
    ({"prediction": "v", "alphas_cumprod": [0.9], "shift": 3.0}, "shift=3.0 acts on flow only"),
    (
        {"prediction": "epsilon", "alphas_cumprod": [0.9], "spacing": "linspace"},
        "epsilon has no 'linspace' spacing; use leading or trailing",
    ),
    ({"prediction": "v", "alphas_cumprod": [0.5, 0.9]}, "must fall from at most 1"),
    ({"prediction": "v", "alphas_cumprod": [1.5, 0.9]}, "must fall from at most 1"),
    ({"prediction": "v", "alphas_cumprod": [0.5, -0.1]}, "to at least 0"),
    ({"prediction": "epsilon", "alphas_cumprod": [0.9, 0.0]}, "says nothing where"),
]


@pytest.mark.parametrize(("options", "message"), BAD_SCHEDULES)
def test_bad_schedules_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Schedule(**options)


def test_steps_that_do_not_fit_are_refused() -> None:
    schedule = Schedule(
        prediction="v", alphas_cumprod=ALPHAS[:10], spacing="leading", steps_offset=1
    )
    with pytest.raises(UsageError, match=r"11 steps do not fit a schedule of 10; use 1\.\.10"):
        timesteps(schedule, 11)
    with pytest.raises(UsageError, match="steps is 0; use 1 or more"):
        timesteps(schedule, 0)
    with pytest.raises(UsageError, match="10 steps with an offset of 1 run past"):
        timesteps(schedule, 10)


@pytest.mark.parametrize("guidance", [-1.0, float("nan"), float("inf")])
def test_unusable_guidance_is_refused(guidance: float) -> None:
    with pytest.raises(UsageError, match=f"guidance is {guidance}; use 0 or more"):
        sample(toy, noise=NOISE, schedule=Schedule(prediction="flow"), steps=2, guidance=guidance)


def test_an_answer_of_another_shape_is_refused() -> None:
    with pytest.raises(UsageError, match=r"answered \(2, 1, 6, 6\) to latents of \(2, 4, 6, 6\)"):
        sample(
            lambda latents, t, conditional: latents[:, :1],
            noise=NOISE,
            schedule=Schedule(prediction="flow"),
            steps=2,
            guidance=1.0,
        )


def test_an_overflow_is_reported() -> None:
    with pytest.raises(VlvError, match="answer at time 1000 is not finite") as caught:
        sample(
            lambda latents, t, conditional: latents * np.nan,
            noise=NOISE,
            schedule=Schedule(prediction="flow"),
            steps=2,
            guidance=1.0,
        )
    assert caught.value.hint == "rerun with --dtype float32"
