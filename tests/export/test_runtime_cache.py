"""The cache of keys and values: moves that lose nothing, and copy no more than they must."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vlv_export.runtime.cache import KvCache, Layer, Lineage, Move, plan_moves

LAYERS = [
    Layer("0.key", 2, 3, "float32"),
    Layer("0.value", 2, 3, "float32"),
    Layer("1.key", 1, 4, "float16"),
]
ROWS, CAPACITY, PREFIX = 5, 9, 2

selections = st.lists(
    st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=ROWS), min_size=1, max_size=6
)


def filled_cache(sides: int = 1) -> KvCache:
    return KvCache(LAYERS, rows=ROWS, capacity=CAPACITY, sides=sides)


def write(cache: KvCache, rows: int, position: int, *, label: int) -> None:
    """What a step does: each row appends something of its own."""
    for tensor in cache.tensors(rows, side=cache.side).values():
        tensor[:, :, position] = (label + np.arange(rows))[:, None, None]


def held(cache: KvCache, rows: int, filled: int) -> NDArray[np.float32]:
    """What the rows of the first tensor hold, one number a position: (rows, filled)."""
    return cache.tensors(rows, side=cache.side)["0.key"][:, 0, :filled, 0]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=8))
def test_moves_in_order_are_what_indexing_is(sources: list[int]) -> None:
    rows = np.arange(9) * 10
    wanted = rows[:8][sources]
    moves = list(plan_moves(np.array(sources), np.zeros(len(sources), np.int64), spare=8))
    for target, source, _ in moves:
        rows[target] = rows[source]
    np.testing.assert_array_equal(rows[: len(sources)], wanted)
    assert len(moves) <= len(sources) + len(sources) // 2, "one saved row a cycle at most"


def test_rows_that_leave_need_no_spare_row_and_no_repeated_copy() -> None:
    moves = list(plan_moves(np.array([1, 3, 4]), np.zeros(3, np.int64), spare=5))
    assert sorted(moves) == [Move(0, 1, 0), Move(1, 3, 0), Move(2, 4, 0)]
    assert moves.index(Move(0, 1, 0)) < moves.index(Move(1, 3, 0)), "row 1 is read, then written"


def test_a_swap_goes_through_the_spare_row() -> None:
    moves = list(plan_moves(np.array([1, 0]), np.array([3, 4]), spare=2))
    assert moves == [Move(2, 0, 4), Move(0, 1, 3), Move(1, 2, 4)]


@settings(max_examples=100, deadline=None)
@given(selections)
def test_a_search_holds_what_full_copies_would_hold(chosen: list[list[int]]) -> None:
    cache, lineage = filled_cache(), Lineage(rows=ROWS, steps=CAPACITY)
    for position in range(PREFIX):
        write(cache, ROWS, position, label=100 * position)
    wanted, filled, rows = held(cache, ROWS, PREFIX).copy(), PREFIX, ROWS
    for step, choice in enumerate(chosen):
        sources = np.array([each % rows for each in choice])
        entries = lineage.starts(sources)
        starts = np.where(entries == 0, 0, PREFIX + entries - 1)
        kept = np.where(starts < filled, sources, np.arange(len(sources)))
        cache.move(list(plan_moves(kept, starts, spare=ROWS)), filled=filled)
        lineage.select(sources)
        wanted, rows = wanted[sources], len(sources)
        np.testing.assert_array_equal(held(cache, rows, filled), wanted)
        write(cache, rows, filled, label=1000 + 10 * step)
        lineage.step()
        filled += 1
        wanted = held(cache, rows, filled).copy()


def test_rows_of_one_beginning_differ_where_they_parted() -> None:
    lineage = Lineage(rows=2, steps=6)
    lineage.select(np.array([0, 0, 1, 1]))
    assert lineage.starts(np.array([1, 0, 2, 0])).tolist() == [1, 1, 1, 0], "1: nothing differs"
    lineage.step()
    lineage.step()
    assert lineage.starts(np.array([1, 1, 3, 2])).tolist() == [1, 3, 1, 1]
    lineage.select(np.array([1, 1, 3, 2]))
    lineage.step()
    assert lineage.starts(np.array([1, 0])).tolist() == [3, 3], "they part at the third token"


def test_all_tensors_move_and_no_more_than_is_filled() -> None:
    cache = filled_cache()
    for tensor in cache.tensors(ROWS, side=0).values():
        tensor[:] = np.arange(ROWS, dtype=np.float32)[:, None, None, None]
    cache.move([Move(0, 3, 2)], filled=5)
    for tensor in cache.tensors(1, side=0).values():
        np.testing.assert_array_equal(tensor[0, 0, :, 0], [0, 0, 3, 3, 3, 0, 0, 0, 0])


def test_leading_rows_are_contiguous_views_of_one_buffer() -> None:
    cache = filled_cache()
    whole, part = cache.tensors(ROWS, side=0), cache.tensors(2, side=0)
    for name, tensor in part.items():
        assert tensor.flags.c_contiguous
        assert np.shares_memory(tensor, whole[name])
    assert {name: tensor.dtype.name for name, tensor in part.items()} == {
        "0.key": "float32", "0.value": "float32", "1.key": "float16",
    }  # fmt: skip


def test_two_sides_are_two_buffers_and_take_turns() -> None:
    cache = filled_cache(sides=2)
    first, second = (cache.tensors(1, side=side)["0.key"] for side in (0, 1))
    assert not np.shares_memory(first, second)
    cache.flip()
    assert cache.side == 1
    cache.flip()
    assert cache.side == 0
    single = filled_cache()
    single.flip()
    assert single.side == 0


@pytest.mark.parametrize("sides", [1, 2])
def test_a_larger_cache_takes_what_is_filled(sides: int) -> None:
    small = filled_cache(sides)
    write(small, ROWS, 0, label=7)
    write(small, ROWS, 1, label=50)
    large = KvCache(LAYERS, rows=6, capacity=20, sides=sides)
    large.take(small, np.array([4, 4, 0]), filled=1)
    np.testing.assert_array_equal(held(large, 3, 2), [[11, 0], [11, 0], [7, 0]])
