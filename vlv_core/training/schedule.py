"""The learning rate as a pure function of the step, ending where training ends."""

import math

from vlv_core.training.options import Schedule


def learning_rate(
    step: int, *, peak: float, steps: int, schedule: Schedule, warmup_steps: int = 0
) -> float:
    """Rate of the update that step (0 <= step < steps) makes.

    Rises linearly to `peak` at the last warm-up step; `cosine` and `linear` then fall to exactly
    0 at step == steps, the first update that is not made.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    match schedule:
        case "constant":
            return peak
        case "linear":
            return peak * (1 - progress)
        case "cosine":
            return peak * 0.5 * (1 + math.cos(math.pi * progress))
