"""Random words: the published generator, each word a function of its counter alone."""

import numpy as np
import pytest

from vlv_core.errors import UsageError
from vlv_plugins.scenes.philox import below, halves, key_of, philox, words

# Philox4x32-10 in the Random123 library's list of known answers: counter, key, output.
KNOWN = [
    (
        (0, 0, 0, 0),
        (0, 0),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_it_gives_the_published_words(counter, key, expected):
    assert philox(counter, key=key) == expected


def test_arrays_and_plain_ints_agree():
    key = key_of("any name")
    counters = np.arange(400, dtype=np.uint64).reshape(4, 100) * np.uint64(10_737_418)
    drawn = philox(tuple(counters), key=key)
    for column in range(100):
        alone = philox(tuple(int(value) for value in counters[:, column]), key=key)
        assert alone == tuple(int(lane[column]) for lane in drawn)


def test_a_row_of_words_depends_on_its_index_alone():
    key = key_of("rows")
    together = words(np.array([7, 2**40, 3]), key=key, attempt=5, number=13)
    assert together.shape == (3, 13)
    for row, index in enumerate((7, 2**40, 3)):
        alone = words(np.array([index]), key=key, attempt=5, number=13)
        assert (together[row] == alone[0]).all()


def test_fewer_words_are_the_first_of_more():
    key = key_of("prefix")
    many = words(np.arange(5), key=key, attempt=0, number=20)
    assert (words(np.arange(5), key=key, attempt=0, number=6) == many[:, :6]).all()


def test_key_attempt_and_index_each_change_every_word():
    base = words(np.array([1]), key=key_of("a"), attempt=0, number=8)
    for other in (
        words(np.array([1]), key=key_of("b"), attempt=0, number=8),
        words(np.array([1]), key=key_of("a"), attempt=1, number=8),
        words(np.array([1 + 2**32]), key=key_of("a"), attempt=0, number=8),
    ):
        assert (base != other).all()


def test_keys_are_the_same_in_every_process():
    assert key_of("shapescape-64/S/1/train") == (0xC9236779, 0x6339FB30)
    assert key_of("a") != key_of("b")


def test_halves_are_the_low_and_the_high_word():
    assert halves(0x123456789ABCDEF0) == (0x9ABCDEF0, 0x12345678)
    assert halves(2**32 - 1) == (2**32 - 1, 0)
    for number in (-1, 2**64):
        with pytest.raises(UsageError, match=rf"number {number} is outside 0 "):
            halves(number)


def test_below_is_even_over_its_range():
    drawn = words(np.arange(30_000), key=key_of("even"), attempt=0, number=1)[:, 0]
    counts = np.bincount(below(drawn, 7), minlength=7)
    assert len(counts) == 7
    # Six standard deviations of a binomial count.
    assert np.abs(counts - 30_000 / 7).max() < 6 * (30_000 * 6 / 49) ** 0.5


def test_below_takes_a_bound_for_each_word():
    drawn = np.array([0, 2**31, 2**32 - 1], dtype=np.uint64)
    assert below(drawn, np.array([5, 6, 7])).tolist() == [0, 3, 6]
