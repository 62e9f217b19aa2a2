"""What the loop needs to know of a thing that trains."""

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """Samples of one micro-batch. The loop moves `tensors` to the device, names unchanged."""

    keys: tuple[str, ...]
    """one a sample, for reports; may be empty if every picture was unreadable"""
    tensors: dict[str, Tensor] = field(default_factory=dict)


class Task(Protocol):
    """One training problem. Nothing in it keeps state between steps but the parameters."""

    @property
    def name(self) -> str: ...

    @property
    def modules(self) -> nn.Module:
        """All that the loss touches; the loop moves it and gives every process the same weights."""
        ...

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        """What the optimiser updates and checkpoints hold; names are unique."""
        ...

    def batch(self, step: int, positions: range) -> Batch:
        """The samples at these positions of the endless training order, on the CPU.

        Called in background threads; a pure function of its arguments.
        """
        ...

    def loss(self, batch: Batch, *, step: int) -> tuple[Tensor, Tensor | float]:
        """Loss summed over the batch, and the weight (samples, or tokens) that it sums over.

        The loop divides by the weight of the whole global batch, so that one process or eight,
        one micro-batch or four, train alike.
        """
        ...


def positions(
    step: int, *, batch: int, micro: int = 0, accumulate: int = 1, rank: int = 0, world: int = 1
) -> range:
    """This process' share of the global batch [step * batch, (step + 1) * batch).

    Contiguous shares whose sizes differ by at most one, in order of micro-batch, then rank.
    """
    share, shares = micro * world + rank, accumulate * world
    start = step * batch
    return range(start + batch * share // shares, start + batch * (share + 1) // shares)
