"""Decoding with an artefact's head: one graph for prefill and steps, bound once, run in place.

Shape legend: B pictures, R rows, M prefix length, D width, k candidates.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vlv_core.errors import ModelError, UsageError
from vlv_core.protocols import TopK
from vlv_export.runtime.cache import KvCache, Layer, Lineage, plan_moves

if TYPE_CHECKING:
    from vlv_export.facts import Generation
    from vlv_export.manifest import GraphEntry, TensorEntry, VariantEntry
    from vlv_export.runtime.compiled import Compiled

ROOM = 64
"""tokens that a cache first holds beside the prefix; it doubles that room when it is full, so that
attention over a long capacity is not paid for by short captions"""
BLOCK = 16
"""capacities are multiples of it, so that similar requests use the same buffers"""
KEPT = 4
"""caches that are kept for the next requests"""


class Head:
    """The head's graphs and the buffers that its decodes use, one after another.

    A graph whose cache has a fixed capacity serves caches of that capacity alone; there may be
    several such graphs, of different capacities.
    """

    def __init__(self, sessions: Compiled, facts: Generation) -> None:
        self.sessions, self.facts = sessions, facts
        self.graph = sessions.graph("head")
        self.layers = cache_layers(self.graph)
        self.sides = 1 if self.graph.shared_cache else 2
        self.fixed = fixed_capacities(sessions.variant)
        self.most = min(facts.max_length, max(self.fixed, default=facts.max_length))
        """tokens that any cache of this head can hold"""
        sessions.session("head")
        self._pool: list[tuple[KvCache, weakref.ref[HeadStepper] | None]] = []

    def rounded(self, capacity: int, *, most: int) -> int:
        """What to allocate for `capacity` tokens, of a request that ends at `most` of them."""
        if self.fixed:
            wanted = min(capacity, most)
            return min(each for each in self.fixed if each >= wanted)
        most = min(-(-most // BLOCK) * BLOCK, self.most)
        return min(-(-capacity // BLOCK) * BLOCK, most)

    def lease(self, user: HeadStepper, *, rows: int, capacity: int) -> KvCache:
        """A cache of exactly this shape, one that no living decode uses if there is such."""
        for index, (cache, owner) in enumerate(self._pool):
            free = owner is None or owner() is None
            if free and (cache.rows, cache.capacity) == (rows, capacity):
                self._pool[index] = (cache, weakref.ref(user))
                cache.side = 0
                return cache
        cache = KvCache(
            self.layers,
            rows=rows,
            capacity=capacity,
            sides=self.sides,
            memory=self.sessions.memory,
        )
        self._pool = [*self._pool[1 - KEPT :], (cache, weakref.ref(user))]
        return cache

    def release(self, cache: KvCache, *, clean: bool) -> None:
        """The cache's user has no more need of it; one that overflowed is never used again."""
        others = [pair for pair in self._pool if pair[0] is not cache]
        self._pool = [(cache, None), *others] if clean else others

    def bind(
        self, cache: KvCache, *, prefix: NDArray[Any], tokens: NDArray[np.int64], k: int
    ) -> Any:
        """A run over the cache's first rows, as many as `prefix` (R, M, D) and `tokens` have."""
        rows = len(prefix)
        past = cache.tensors(rows, side=cache.side)
        present = cache.tensors(rows, side=(cache.side + 1) % cache.sides)
        if cache.sides == 1:
            # The very same objects, so that both ends are bound to one value.
            present = past
        return self.sessions.bind(
            self.fixed.get(cache.capacity, "head"),
            {
                **fed(self.graph, prefix, tokens),
                "position": cache.position[:rows],
                "k": np.array([k], np.int64),
                **{f"past.{name}": tensor for name, tensor in past.items()},
            },
            {
                "top_log_probs": np.empty((rows, k), np.float32),
                "top_ids": np.empty((rows, k), np.int64),
                **{f"present.{name}": tensor for name, tensor in present.items()},
            },
            varying=("tokens", "position"),
        )


class HeadStepper:
    """One decode in flight; see `protocols.Stepper`. All rows stand at the same position."""

    def __init__(self, head: Head, prefix: NDArray[Any], capacity: int) -> None:
        most = head.most
        if not prefix.shape[1] < capacity <= most:
            raise UsageError(
                f"a capacity of {capacity} tokens does not fit: the prefix has {prefix.shape[1]} "
                f"and this variant at most {most}",
                hint="lower max_new_tokens",
            )
        self.head = head
        self.capacity = capacity
        self.prefix = np.ascontiguousarray(prefix, np.float32)
        self.rows, self.filled = self.prefix.shape[:2]
        self._clean = True

    def prefill(self, k: int) -> TopK:
        """Read the prefix (B, M, D); the best k first words of each row."""
        self.lineage = Lineage(rows=self.rows, steps=self.capacity - self.filled)
        capacity = self.head.rounded(self.filled + ROOM, most=self.capacity)
        self.cache = self.head.lease(self, rows=self.rows, capacity=capacity)
        k = min(k, self.head.facts.vocab_size)
        self.cache.position[:] = 0
        nothing = np.empty((self.rows, 0), np.int64)
        return self._run(self.head.bind(self.cache, prefix=self.prefix, tokens=nothing, k=k))

    def step(self, tokens: NDArray[np.int64], k: int) -> TopK:
        """Append tokens (R,); the best k next words of each row."""
        if self.filled == self.cache.capacity:
            room = 2 * (self.filled - self.prefix.shape[1])
            self._replace(np.arange(self.rows), capacity=self.prefix.shape[1] + room)
        cache, k = self.cache, min(k, self.head.facts.vocab_size)
        cache.tokens[: self.rows, 0] = tokens
        cache.position[: self.rows] = self.filled
        bound = cache.bound.get((self.rows, k, cache.side))
        if bound is None:
            nothing = np.empty((self.rows, 0, self.prefix.shape[2]), np.float32)
            bound = self.head.bind(cache, prefix=nothing, tokens=cache.tokens[: self.rows], k=k)
            cache.bound[self.rows, k, cache.side] = bound
        self.filled += 1
        self.lineage.step()
        return self._run(bound)

    def select(self, rows: NDArray[np.int64]) -> None:
        """Keep these rows (R',): repeats, reorders or drops; copies no more than differs."""
        if len(rows) > self.cache.rows:
            self._replace(rows, capacity=self.cache.capacity)
        else:
            entries = self.lineage.starts(rows)
            # Entry 0 is the prefix, which begins at position 0; entry n is the n-th token.
            length = self.prefix.shape[1]
            starts = np.where(entries == 0, 0, length + entries - 1)
            sources = np.where(starts < self.filled, rows, np.arange(len(rows)))
            moves = plan_moves(sources, starts, spare=self.cache.rows)
            self.cache.move(list(moves), filled=self.filled)
        self.lineage.select(rows)
        self.rows = len(rows)

    def _replace(self, rows: NDArray[np.int64], *, capacity: int) -> None:
        """Go on in a larger cache, with these rows of this one."""
        old, needed = self.cache, max(len(rows), self.cache.rows)
        self.cache = self.head.lease(
            self, rows=needed, capacity=self.head.rounded(capacity, most=self.capacity)
        )
        self.cache.take(old, rows, filled=self.filled)
        self.head.release(old, clean=self._clean)

    def _run(self, bound: Any) -> TopK:
        bound.run()
        self.cache.flip()
        # Copies: the buffers are written again by the next step.
        top = TopK(bound.outputs["top_log_probs"].copy(), bound.outputs["top_ids"].copy())
        if not np.isfinite(top.log_probs).all():
            self._clean = False
            self.head.release(self.cache, clean=False)
        return top


def fed(
    graph: GraphEntry, prefix: NDArray[np.float32], tokens: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """What a head's graph is given to read prefix (R, M, D) and then tokens (R, T).

    The one difference of joined heads, both of whose inputs are (R, M + T).
    """
    if not graph.joined:
        return {"prefix": prefix, "tokens": tokens}
    rows, length, width = prefix.shape
    blank = np.zeros((rows, tokens.shape[1], width), np.float32)
    if not length:
        # The tokens themselves: their buffer is bound, and written again by each step.
        return {"prefix": blank, "tokens": tokens}
    marks = np.full((rows, length), -1, np.int64)
    return {
        "prefix": np.concatenate([prefix, blank], axis=1),
        "tokens": np.concatenate([marks, tokens], axis=1),
    }


def cache_layers(graph: GraphEntry) -> list[Layer]:
    """The cache tensors that a head's graph reads. Raises ModelError for those of another form."""
    return [
        Layer(each.name.removeprefix("past."), _size(each, 1), _size(each, 3), each.dtype)
        for each in graph.inputs
        if each.name.startswith("past.")
    ]


def fixed_capacities(variant: VariantEntry) -> dict[int, str]:
    """Capacity -> the head's part of it, the smallest first; empty if the capacity is free."""
    found = {
        each.shape[2]: part
        for part, graph in variant.graphs.items()
        if part.partition(".")[0] == "head"
        for each in graph.inputs
        if each.name.startswith("past.") and len(each.shape) == 4
    }
    return {size: found[size] for size in sorted(each for each in found if isinstance(each, int))}


def _size(entry: TensorEntry, axis: int) -> int:
    size = entry.shape[axis] if len(entry.shape) == 4 else None
    if not isinstance(size, int):
        raise ModelError(
            f"the head's {entry.name!r} has the shape {entry.shape}; "
            "this runtime reads (batch, heads, capacity, width)",
            hint="use the version of vlv that wrote the artefact",
        )
    return size
