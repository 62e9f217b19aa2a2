"""What this machine's processor can do at best, by torch's matrix products in each arithmetic."""

from collections.abc import Iterator

import torch

from vlv_benchmarks.job import Job, Measured
from vlv_benchmarks.probe import best_seconds

EDGE, COPIED, TIMES = 2048, 2**28, 5


def run(job: Job) -> Measured:
    """Rates as facts: `float32`, `bfloat16` and `int8` in GFLOP/s, `copy` in GB/s."""
    torch.set_num_threads(job.row.threads)
    facts = {name: 2 * EDGE**3 / seconds / 1e9 for name, seconds in _products()}
    source = torch.randint(0, 256, (COPIED,), dtype=torch.uint8)
    target = torch.empty_like(source)
    copy = best_seconds(lambda: target.copy_(source), times=TIMES)
    return Measured(stages={"total": [1.0]}, facts={**facts, "copy": 2 * COPIED / copy / 1e9})


def _products() -> Iterator[tuple[str, float]]:
    torch.manual_seed(0)
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        left, right = (torch.randn(EDGE, EDGE).to(dtype) for _ in range(2))
        yield name, best_seconds(lambda left=left, right=right: left @ right, times=TIMES)  # type: ignore[misc]
    small = torch.randint(-127, 128, (EDGE, EDGE), dtype=torch.int8)
    try:
        yield "int8", best_seconds(lambda: torch._int_mm(small, small), times=TIMES)
    except RuntimeError:
        return  # no such kernel here: rows of it have no bound
