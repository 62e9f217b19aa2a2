"""What a step allocates is counted, and a step that begins to copy is found."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vlv_benchmarks._allocations import asked
from vlv_benchmarks.allocations import STEPS, WARM, of_a_step


class Stepper:
    """Holds a buffer; copies it at each step if `copies`."""

    def __init__(self, *, copies: int, library: Any) -> None:
        self.copies, self.steps = copies, 0
        self.kept = library.zeros(100_000)
        self.copy = np.copy if library is np else torch.clone

    def prefill(self, k: int) -> None:
        assert k == 1

    def step(self, tokens: Any, k: int) -> None:
        assert tokens.shape == (1,) and k == 1
        self.steps += 1
        # what only the first steps do is no part of a step
        times = self.copies if self.steps > WARM else 50
        for _ in range(times):
            self.copy(self.kept)


def captioner(stepper: Stepper) -> Any:
    capacities: list[int] = []

    def start(prefix: Any, capacity: int) -> Stepper:
        capacities.append(capacity)
        return stepper

    encoded = SimpleNamespace(prefix=np.zeros((1, 3, 2), np.float32))
    return SimpleNamespace(
        encode=lambda paths: encoded, backend=SimpleNamespace(start=start), capacities=capacities
    )


@pytest.mark.parametrize("copies", [0, 1, 7])
def test_torchs_allocator_is_asked_as_often_as_a_step_copies(copies: int) -> None:
    stepper = Stepper(copies=copies, library=torch)
    found = of_a_step(captioner(stepper), Path("x"), torch=True)
    assert found == {"step_allocations": copies}


@pytest.mark.parametrize(("copies", "kib"), [(0, (1, 2)), (1, (782, 784)), (7, (782, 784))])
def test_the_most_that_numpy_holds_at_once_is_found(copies: int, kib: tuple[int, int]) -> None:
    stepper = Stepper(copies=copies, library=np)
    (found,) = of_a_step(captioner(stepper), Path("x"), torch=False).values()
    # 100 000 numbers of 8 bytes are 781.25 KiB
    assert kib[0] <= found <= kib[1]


def test_a_cache_has_room_for_all_steps() -> None:
    stepper = Stepper(copies=0, library=np)
    made = captioner(stepper)
    of_a_step(made, Path("x"), torch=False)
    (capacity,) = made.capacities
    assert capacity == 3 + WARM + 2 * STEPS + 1 > 3 + stepper.steps


def test_what_allocates_nothing_counts_nothing() -> None:
    assert asked(lambda: None) == 0
    assert asked(lambda: [torch.empty(10) for _ in range(7)]) == 7
