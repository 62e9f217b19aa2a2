"""The cache of keys and values of a decode: allocated once, moved about as little as can be.

Shape legend: R rows in use, H key heads, C capacity, D width of a head, N tensors of one shape.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlv_export.runtime.memory import HostMemory, Memory


class Layer(NamedTuple):
    """One cache tensor of a graph, (R, heads, C, width)."""

    name: str
    """without "past." or "present.", such as "0.key" """
    heads: int
    width: int
    dtype: str


class Move(NamedTuple):
    """Copy what row `source` holds from position `start` on to row `target`."""

    target: int
    source: int
    start: int


class KvCache:
    """Buffers for up to `rows` rows, the last `filled` of whose positions are decided elsewhere.

    `sides` 1: graphs write in place. 2: they read `side` and write the other, and then `flip` is
    called. The first R rows of a tensor are one contiguous view, so that rows that end leave
    without a new allocation.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        *,
        rows: int,
        capacity: int,
        sides: int,
        memory: Memory | None = None,
    ) -> None:
        self.memory = memory or HostMemory()
        self.rows, self.capacity, self.sides = rows, capacity, sides
        self.side = 0
        self.tokens = np.zeros((rows, 1), np.int64)
        self.position = np.zeros(rows, np.int64)
        self.bound: dict[tuple[int, int, int], Any] = {}
        """(rows, k, side) -> what runs one step on these buffers"""
        self._blocks: list[list[Any]] = [[] for _ in range(sides)]
        self._places: dict[str, tuple[int, int]] = {}
        """layer's name -> its block, and its tensor there"""
        for kind in dict.fromkeys(layer[1:] for layer in layers):
            self._allocate([layer for layer in layers if layer[1:] == kind])

    def tensors(self, rows: int, *, side: int) -> dict[str, Any]:
        """Layer's name -> its first rows, (rows, H, C, D), contiguous."""
        blocks = self._blocks[side]
        return {
            name: self.memory.tensor(blocks[block], index, rows)
            for name, (block, index) in self._places.items()
        }

    def flip(self) -> None:
        """What was just written is what holds."""
        self.side = (self.side + 1) % self.sides

    def move(self, moves: Sequence[Move], *, filled: int) -> None:
        """Carry out the moves in order, up to position `filled`; row `rows` is the spare one."""
        for target, source, start in moves:
            for block in self._blocks[self.side]:
                self.memory.copy(block, target, block, source, start=start, stop=filled)

    def take(self, other: "KvCache", sources: NDArray[np.int64], *, filled: int) -> None:
        """Copy the other cache's rows `sources` (R,), up to position `filled`."""
        for mine, others in zip(self._blocks[self.side], other._blocks[other.side], strict=True):
            for target, source in enumerate(sources.tolist()):
                self.memory.copy(mine, target, others, source, start=0, stop=filled)

    def _allocate(self, layers: Sequence[Layer]) -> None:
        _, heads, width, dtype = layers[0]
        # One row more than asked for: the spare row of `plan_moves`.
        shape = (len(layers), self.rows + 1, heads, self.capacity, width)
        self._places |= {
            layer.name: (len(self._blocks[0]), index) for index, layer in enumerate(layers)
        }
        for blocks in self._blocks:
            # Zeros, not what memory held before: 0 x nan would be nan, though never attended to.
            blocks.append(self.memory.zeros(shape, dtype))


class Lineage:
    """Which rows share their beginning, so that only what differs is moved.

    Entry (r, 0) says whose prefix row r holds, entry (r, n) which row wrote its n-th token: rows
    of one beam search differ in their last tokens only.
    """

    def __init__(self, *, rows: int, steps: int) -> None:
        self._writers = np.zeros((rows, steps + 1), np.int32)
        self._writers[:, 0] = np.arange(rows)
        self.rows, self.steps = rows, 0

    def step(self) -> None:
        """Each row has got one token more."""
        self.steps += 1
        self._writers[: self.rows, self.steps] = np.arange(self.rows)

    def starts(self, sources: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each new row r (R',), the first entry where row r differs from row sources[r].

        It is steps + 1 where they hold the same.
        """
        held = self._writers[:, : self.steps + 1]
        count = min(len(sources), self.rows)
        differ = np.ones((len(sources), self.steps + 2), bool)
        differ[:count, :-1] = held[:count] != held[sources[:count]]
        return differ.argmax(axis=1)

    def select(self, sources: NDArray[np.int64]) -> None:
        """Row r now holds what row sources[r] held."""
        kept = self._writers[sources]
        if len(sources) > len(self._writers):
            self._writers = kept
        else:
            self._writers[: len(sources)] = kept
        self.rows = len(sources)


def plan_moves(
    sources: NDArray[np.int64], starts: NDArray[np.int64], *, spare: int
) -> Iterator[Move]:
    """Moves, in order, after which row r holds what row sources[r] held before, from starts[r] on.

    Nothing is overwritten before it was read; a cycle goes through the row `spare`. Rows that stay
    are told by sources[r] == r. The parallel move of register allocators (May, 1989).
    """
    pending = {r: s for r, s in enumerate(sources.tolist()) if r != s}
    begin = starts.tolist()
    readers: dict[int, set[int]] = {}
    for target, source in pending.items():
        readers.setdefault(source, set()).add(target)
    free = [target for target in pending if target not in readers]
    while pending:
        if not free:
            # Only cycles are left: save one row, whose sole reader then reads the spare row.
            saved = next(iter(pending))
            (reader,) = readers.pop(saved)
            yield Move(spare, saved, begin[reader])
            pending[reader] = spare
            readers[spare] = {reader}
            free.append(saved)
        target = free.pop()
        source = pending.pop(target)
        yield Move(target, source, begin[target])
        readers[source].discard(target)
        if not readers[source]:
            del readers[source]
            if source in pending:
                free.append(source)
