"""What a decode step allocates once all is warm: the same in every run of one set of libraries, so
that a step that begins to copy its cache is found without a clock."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from vlv_core.captioner import Captioner

WARM, STEPS = 4, 5
KIB = 1024


def of_a_step(captioner: Captioner, picture: Path, *, torch: bool) -> dict[str, float]:
    """By torch, how often its allocator was asked; otherwise whole KiB that Python and numpy held
    at most, above what they held before. Medians of a few steps after a few others.

    Slow: for after the clock was stopped and the memory read.
    """
    prefix = captioner.encode([picture]).prefix
    stepper = captioner.backend.start(prefix, prefix.shape[1] + WARM + 2 * STEPS + 1)
    stepper.prefill(1)
    token = np.zeros(1, np.int64)

    def step() -> None:
        stepper.step(token, 1)

    for _ in range(WARM):
        step()
    if torch:
        from vlv_benchmarks._allocations import asked

        return {"step_allocations": median(float(asked(step)) for _ in range(STEPS))}
    return {"step_kib": median(_most_kib(step) for _ in range(STEPS))}


def _most_kib(call: Callable[[], None]) -> float:
    tracemalloc.start()
    try:
        call()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        call()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return float(-(-(most - before) // KIB))
