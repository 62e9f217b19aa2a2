"""How fast this machine is just now: a fixed matrix product and a fixed copy, in this process."""

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlv_benchmarks.turn import Rates

EDGE = 1024
"""of the square float32 matrices"""
COPIED = 2**25
"""bytes, more than the nearer caches hold"""
BEST_OF = 7


def probe() -> Rates:
    """The best of a few of each: what others do on the machine only slows."""
    left, right, product, source, target = _buffers()
    multiply = best_seconds(lambda: np.matmul(left, right, out=product), times=BEST_OF)
    copy = best_seconds(lambda: np.copyto(target, source), times=BEST_OF)
    # read once and written once
    return Rates(gflops=2 * EDGE**3 / multiply / 1e9, gbps=2 * COPIED / copy / 1e9)


def best_seconds(call: Callable[[], Any], *, times: int) -> float:
    """Of a few calls, after one that is not counted."""
    call()
    found = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return min(found)


@cache
def _buffers() -> tuple[NDArray[Any], ...]:
    draw = np.random.default_rng(0)
    left, right = (draw.standard_normal((EDGE, EDGE), np.float32) for _ in range(2))
    source = draw.integers(0, 256, COPIED, np.uint8)
    return left, right, np.empty_like(left), source, np.empty_like(source)
