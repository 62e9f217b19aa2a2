"""Philox4x32-10: counter-based random words, for plain ints and for arrays of counters alike.

The generators of `vlv_core.randomness` are streams, rebuilt for each counter (15 us); here all
counters of a batch cost one call, about 0.1 us each. Source: Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3" (2011).
"""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vlv_core import randomness
from vlv_core.errors import UsageError

Words = TypeVar("Words", int, NDArray[np.uint64])

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def key_of(name: str) -> tuple[int, int]:
    """Two 32-bit key words from a name, the same in every process."""
    key = randomness.key_of(name)
    return key & _MASK, key >> 32


def halves(number: int) -> tuple[int, int]:
    """A number as two counter words, the low one first; UsageError outside 0 .. 2**64 - 1."""
    if not 0 <= number < 2**64:
        raise UsageError(f"number {number} is outside 0 .. 2**64 - 1, so no counter can hold it")
    return number & _MASK, number >> 32


def philox(
    counter: tuple[Words, Words, Words, Words], *, key: tuple[int, int]
) -> tuple[Words, Words, Words, Words]:
    """Four 32-bit words for each counter; array counters are uint64 and broadcast together."""
    lanes: Any = counter
    a, b, c, d = lanes
    first, second = key
    for _ in range(10):
        left, right = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = (
            (right >> 32) ^ b ^ first,
            right & _MASK,
            (left >> 32) ^ d ^ second,
            left & _MASK,
        )
        first, second = (first + _WEYL[0]) & _MASK, (second + _WEYL[1]) & _MASK
    return a, b, c, d


def words(
    indices: NDArray[np.int64], *, key: tuple[int, int], attempt: int, number: int
) -> NDArray[np.uint64]:
    """The first `number` 32-bit words of each index in one attempt: (len(indices), number)."""
    wide = indices.astype(np.uint64)[:, None]
    blocks = np.arange(-(-number // 4), dtype=np.uint64)[None]
    attempts = np.full_like(blocks, attempt)
    counter = (wide & np.uint64(_MASK), wide >> np.uint64(32), attempts, blocks)
    drawn = philox(counter, key=key)
    lanes = np.stack(np.broadcast_arrays(*drawn), axis=-1)
    return lanes.reshape(len(indices), 4 * blocks.size)[:, :number]


def below(drawn: NDArray[np.uint64], bound: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """32-bit words as integers in 0 .. bound - 1; the bias is under bound / 2**32."""
    return ((drawn * np.asarray(bound, dtype=np.uint64)) >> np.uint64(32)).astype(np.int64)
