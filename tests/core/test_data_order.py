"""The endless training order: a bijection each epoch, even-handed, and the same from any start."""

from itertools import pairwise, permutations
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlv_core.data.order import Cursor, epoch_order, indices, permute
from vlv_core.errors import DataError


def chi_square_z(counts: np.ndarray) -> float:
    """How many standard deviations the counts' chi-square is from that of equal chances."""
    expected = counts.sum() / counts.size
    freedom = counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom))


@pytest.mark.parametrize("n", [*range(1, 130), 255, 256, 257, 1000, 4096, 9999, 65537])
def test_every_sample_once_an_epoch(n: int) -> None:
    for epoch in range(2):
        assert np.array_equal(np.sort(epoch_order(11, epoch, n)), np.arange(n))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3000), st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6))
def test_any_key_gives_a_bijection(n: int, key: list[int]) -> None:
    moved = permute(np.arange(n), n=n, key=np.array(key, np.uint64))
    assert np.array_equal(np.sort(moved), np.arange(n))


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_all_orders_of_few_samples_come_equally_often(n: int) -> None:
    orders = {order: 0 for order in permutations(range(n))}
    for seed in range(8 * factorial(n) + 400):
        orders[tuple(epoch_order(seed, 0, n).tolist())] += 1
    assert abs(chi_square_z(np.array(list(orders.values())))) < 4


def test_places_of_many_samples_are_even_handed() -> None:
    n, bins = 1000, 20
    table = np.zeros((bins, bins))
    for epoch in range(100):
        order = epoch_order(5, epoch, n)
        np.add.at(table, (np.arange(n) * bins // n, order * bins // n), 1)
    assert abs(chi_square_z(table)) < 4


def test_neighbours_do_not_stay_together() -> None:
    order = epoch_order(5, 0, 100_000)
    steps = np.diff(order) % 100_000
    counts = np.bincount(steps * 50 // 100_000, minlength=50)
    assert abs(chi_square_z(counts)) < 4


def test_epochs_and_seeds_differ() -> None:
    orders = [epoch_order(seed, epoch, 500).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_order_is_pinned() -> None:
    # A change here would make every checkpoint resume with other samples.
    assert epoch_order(0, 0, 10).tolist() == [9, 3, 5, 0, 6, 4, 7, 8, 2, 1]
    across = indices(3, 10**9, 2 * 10**9 - 2, 4)
    assert across.tolist() == [158742201, 331125279, 680265217, 925584785]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(0, 200), st.integers(0, 90), st.integers(1, 7))
def test_indices_are_epochs_end_to_end(n: int, start: int, count: int, parts: int) -> None:
    epochs = [epoch_order(9, epoch, n) for epoch in range((start + count) // n + 1)]
    whole = np.concatenate(epochs)[start : start + count]
    got = indices(9, n, start, count)
    assert got.dtype == np.int64 and np.array_equal(got, whole)
    edges = [start + count * part // parts for part in range(parts + 1)]
    pieces = [indices(9, n, low, high - low) for low, high in pairwise(edges)]
    assert np.array_equal(np.concatenate(pieces), whole)


def test_a_billion_samples_cost_nothing() -> None:
    n = 1_000_000_007
    batch = indices(1, n, 40 * n + 12345, 4096)
    assert batch.min() >= 0 and batch.max() < n and len(set(batch.tolist())) == 4096
    assert 0.45 < batch.mean() / n < 0.55


def test_cursor_and_empty_dataset() -> None:
    assert Cursor.at(0, 7) == (0, 0)
    assert Cursor.at(23, 7) == Cursor(epoch=3, position=2)
    for call in (
        lambda: Cursor.at(0, 0),
        lambda: indices(0, 0, 0, 1),
        lambda: epoch_order(0, 0, 0),
    ):
        with pytest.raises(DataError, match="the dataset is empty"):
            call()
