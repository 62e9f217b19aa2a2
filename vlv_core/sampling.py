"""ONE denoising loop, in numpy, for every runtime: DDIM for epsilon and v, Euler for flow.

Forward processes, with noise n ~ N(0, 1):
    epsilon, v   x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) n,  a = alphas_cumprod,  t = 0..T-1
    flow         x_s = (1 - s) x_0 + s n,  s = t / T in 0..1
The network answers n, v = sqrt(a_t) n - sqrt(1 - a_t) x_0, or the velocity n - x_0.
Sources: DDIM, arXiv 2010.02502, eta = 0; v, arXiv 2202.00512; rectified flow and its time shift,
arXiv 2403.03206. Step for step equal to diffusers' DDIMScheduler (unclipped) and
FlowMatchEulerDiscreteScheduler.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vlv_core.errors import UsageError, VlvError
from vlv_core.specs import Prediction

Spacing = Literal["leading", "trailing", "linspace"]
Latents = NDArray[np.float32]
Predict = Callable[[Latents, NDArray[Any], bool], Latents]
"""(latents (B, *latent), t (B,), conditional) -> what the network answers, (B, *latent)"""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How a diffusion model was trained, as far as drawing from it needs to know."""

    prediction: Prediction
    alphas_cumprod: Sequence[float] | NDArray[Any] = ()
    """a_0 .. a_{T-1}, falling from almost 1; of epsilon and v only"""
    train_steps: int = 1000
    """T, the unit of time that the network is told; alphas_cumprod overrules it"""
    shift: float = 1.0
    """of flow only: s -> shift s / (1 + (shift - 1) s), above 1 dwells where noise is strong"""
    spacing: Spacing = "trailing"
    """leading: 0, T/n, ... (latent diffusion, with steps_offset 1); trailing: T-1, T-1-T/n, ...;
    linspace: of flow only, ends at 1/T (arXiv 2403.03206 as released)"""
    steps_offset: int = 0
    """of leading only: added to each time"""
    set_alpha_to_one: bool = True
    """of epsilon and v: end at a clean picture (a = 1), not at a_0"""

    def __post_init__(self) -> None:
        # A tuple, so that equal schedules compare and hash as equal.
        alphas = tuple(float(alpha) for alpha in self.alphas_cumprod)
        object.__setattr__(self, "alphas_cumprod", alphas)
        if self.prediction == "flow":
            _check_flow(self)
            return
        if self.prediction not in ("epsilon", "v"):
            raise UsageError(f"no prediction named {self.prediction!r}; use epsilon, v or flow")
        _check_diffusion(self)
        object.__setattr__(self, "train_steps", len(alphas))


def timesteps(schedule: Schedule, steps: int) -> NDArray[Any]:
    """Times of `steps` calls, falling: int64 (steps,) for epsilon and v, float32 for flow.

    Raises UsageError where the schedule has no room for so many steps.
    """
    total = schedule.train_steps
    if steps < 1:
        raise UsageError(f"steps is {steps}; use 1 or more")
    if schedule.prediction == "flow":
        return (_sigmas(schedule, steps) * total).astype(np.float32)
    if steps > total:
        raise UsageError(f"{steps} steps do not fit a schedule of {total}; use 1..{total}")
    if schedule.spacing == "trailing":
        # The slice drops a time of -1 that rounding adds to arange for some steps.
        times = np.round(np.arange(total, 0, -total / steps)[:steps]).astype(np.int64) - 1
    else:
        times = np.arange(steps)[::-1] * (total // steps) + schedule.steps_offset
    if times[0] >= total:
        raise UsageError(
            f"{steps} steps with an offset of {schedule.steps_offset} run past the schedule's end",
            hint="use fewer steps",
        )
    return times


def guided(conditional: Latents, unconditional: Latents, guidance: float) -> Latents:
    """Classifier-free guidance, arXiv 2207.12598: 0 is unconditional, 1 conditional."""
    return unconditional + guidance * (conditional - unconditional)


def sample(
    predict: Predict, *, noise: Latents, schedule: Schedule, steps: int, guidance: float
) -> Latents:
    """Denoise `noise` (B, *latent), standard normal, to latents (B, *latent) float32.

    Guidance of exactly 1 (or 0) asks `predict` for the one branch it needs; any other value asks
    twice a step. Two calls of B, not one of 2 B: the batch that a compiled denoiser was built for,
    and the memory it takes, do not depend on guidance.
    Raises UsageError for unusable steps or guidance, VlvError if the denoiser overflows.
    """
    if not 0 <= guidance < np.inf:
        raise UsageError(f"guidance is {guidance}; use 0 or more, and 1 for none")
    latents = noise.astype(np.float32)
    for time, keep, add in _coefficients(schedule, steps):
        times = np.full(len(latents), time)
        answer = _answer(predict, latents, times, guidance)
        # Coefficients are float64 until here; one of that type would widen the latents.
        latents = np.float32(keep) * latents + np.float32(add) * answer
    return latents


def _answer(predict: Predict, latents: Latents, times: NDArray[Any], guidance: float) -> Latents:
    """The network's guided answer (B, *latent), checked: a wrong shape would broadcast silently."""
    branches = [True] if guidance == 1 else [False] if guidance == 0 else [True, False]
    answers = [np.asarray(predict(latents, times, branch), np.float32) for branch in branches]
    for answer in answers:
        if answer.shape != latents.shape:
            raise UsageError(
                f"the denoiser answered {answer.shape} to latents of {latents.shape}; "
                "the two must be equal"
            )
        if not np.isfinite(answer).all():
            raise VlvError(
                f"the denoiser's answer at time {times[0]:g} is not finite",
                hint="rerun with --dtype float32",
            )
    return answers[0] if len(answers) == 1 else guided(answers[0], answers[1], guidance)


def _coefficients(schedule: Schedule, steps: int) -> Iterator[tuple[Any, float, float]]:
    """(time, keep, add) of each step, which is always x <- keep x + add answer."""
    times = timesteps(schedule, steps)
    if schedule.prediction == "flow":
        sigmas = np.append(_sigmas(schedule, steps), 0)
        yield from zip(times, np.ones(steps), np.diff(sigmas), strict=True)
        return
    alphas = np.asarray(schedule.alphas_cumprod)
    # The level after the last step: clean, or the cleanest that training saw.
    last = 1.0 if schedule.set_alpha_to_one else alphas[0]
    # diffusers steps back by T // steps, also where the listed times are not that far apart.
    before = times - schedule.train_steps // steps
    for time, earlier in zip(times, before, strict=True):
        keep, add = _ddim(
            schedule.prediction, alphas[time], alphas[earlier] if earlier >= 0 else last
        )
        yield time, keep, add


def _ddim(prediction: Prediction, alpha: float, next_alpha: float) -> tuple[float, float]:
    """(keep, add) of one step from noise level `alpha` to `next_alpha`, equation 12 with eta = 0.

    x' = signal' x_0 + noise' n, and both x_0 and n are linear in x and the answer.
    """
    signal, noise = np.sqrt(alpha), np.sqrt(1 - alpha)
    next_signal, next_noise = np.sqrt(next_alpha), np.sqrt(1 - next_alpha)
    if prediction == "epsilon":
        return next_signal / signal, next_noise - next_signal * noise / signal
    return (
        next_signal * signal + next_noise * noise,
        next_noise * signal - next_signal * noise,
    )


def _sigmas(schedule: Schedule, steps: int) -> NDArray[np.float64]:
    """Noise levels of flow's `steps` calls, falling from 1: (steps,)."""
    if schedule.spacing == "trailing":
        return _shifted(np.linspace(1, 1 / steps, steps), schedule.shift)
    # diffusers shifts the last level once to find the range, then the whole range again.
    last = _shifted(np.float64(1 / schedule.train_steps), schedule.shift)
    return _shifted(np.linspace(1, last, steps), schedule.shift)


def _shifted(sigmas: Any, shift: float) -> Any:
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def _check_flow(schedule: Schedule) -> None:
    if schedule.alphas_cumprod:
        raise UsageError("a flow schedule has no alphas_cumprod; leave them out")
    if schedule.spacing not in ("trailing", "linspace"):
        raise UsageError(f"flow has no {schedule.spacing!r} spacing; use trailing or linspace")
    if schedule.train_steps < 1 or not 0 < schedule.shift < np.inf:
        raise UsageError(
            f"train_steps is {schedule.train_steps} and shift {schedule.shift}; both are above 0"
        )


def _check_diffusion(schedule: Schedule) -> None:
    alphas = np.asarray(schedule.alphas_cumprod)
    if not len(alphas):
        raise UsageError(f"{schedule.prediction} prediction needs the model's alphas_cumprod")
    if schedule.shift != 1:
        raise UsageError(f"shift={schedule.shift} acts on flow only; leave it at 1")
    if schedule.spacing not in ("leading", "trailing"):
        raise UsageError(
            f"{schedule.prediction} has no {schedule.spacing!r} spacing; use leading or trailing"
        )
    if alphas.max() > 1 or alphas.min() < 0 or (np.diff(alphas) > 0).any():
        raise UsageError("alphas_cumprod must fall from at most 1 to at least 0")
    if schedule.prediction == "epsilon" and alphas[-1] == 0:
        raise UsageError(
            "epsilon prediction says nothing where alphas_cumprod is 0",
            hint="a schedule rescaled to zero terminal signal needs v prediction",
        )
