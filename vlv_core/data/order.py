"""The order of training samples: every epoch a new shuffle, and no list of it anywhere.

The shuffle is a keyed bijection of 0..n-1, so the sample at any position of any epoch is computed
on the spot: a billion samples cost no memory, and resuming needs only a step number.
Method: a generalised Feistel network with cycle walking (Black and Rogaway, "Ciphers with arbitrary
finite domains", 2002).
"""

from math import isqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlv_core.errors import DataError
from vlv_core.randomness import Purpose, generator

_ROUNDS = 16
"""enough that all orders of 7 samples come equally often; fewer show a bias"""


class Cursor(NamedTuple):
    """A place in the endless training order."""

    epoch: int
    position: int
    """within the epoch, 0..n-1"""

    @classmethod
    def at(cls, start: int, n: int) -> "Cursor":
        """Where global sample number `start` falls in a dataset of n."""
        return cls(*divmod(start, _checked(n)))


def indices(seed: int, n: int, start: int, count: int) -> NDArray[np.int64]:
    """Dataset indices (count,) of global samples start..start+count-1, across epochs as needed.

    Step i of global batch size b reads `indices(seed, n, i * b, b)`; a process of several reads its
    own part of that range. Raises DataError for an empty dataset.
    """
    pieces = []
    end = start + count
    while start < end:
        epoch, position = Cursor.at(start, n)
        taken = min(end - start, n - position)
        pieces.append(epoch_order(seed, epoch, n, positions=np.arange(position, position + taken)))
        start += taken
    return np.concatenate(pieces) if pieces else np.empty(0, np.int64)


def epoch_order(
    seed: int, epoch: int, n: int, *, positions: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Dataset indices at these positions of the epoch's shuffle, all n of them by default."""
    places = np.arange(_checked(n)) if positions is None else positions
    stream = generator(seed, purpose=Purpose.ORDER, step=epoch, key=0)
    return permute(places, n=n, key=stream.bit_generator.random_raw(_ROUNDS))


def permute(index: NDArray[np.int64], *, n: int, key: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where each index of 0..n-1 goes under the bijection of 0..n-1 that `key` (rounds,) picks.

    The network permutes the cells of a grid: n, and less than one row or column more. An index that
    lands beyond n is sent through again until it comes back among the n.
    """
    # An even number of rows: additions modulo odd numbers alone give even permutations only.
    rows = (isqrt(_checked(n) - 1) + 2) // 2 * 2
    columns = -(-n // rows)
    out = _network(index.astype(np.uint64), rows, columns, key)
    while (outside := out >= n).any():
        out[outside] = _network(out[outside], rows, columns, key)
    return out.astype(np.int64)


def _network(
    index: NDArray[np.uint64], rows: int, columns: int, key: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    row, column = np.divmod(index, np.uint64(columns))
    for number, round_key in enumerate(key):
        # Each round adds to one coordinate a hash of the other, which a subtraction would undo.
        if number % 2:
            column = (column + _hash(row, round_key) % np.uint64(columns)) % np.uint64(columns)
        else:
            row = (row + _hash(column, round_key) % np.uint64(rows)) % np.uint64(rows)
    return row * np.uint64(columns) + column


def _hash(values: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014); arithmetic wraps at 2**64."""
    mixed = values * np.uint64(0x9E3779B97F4A7C15) + key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _checked(n: int) -> int:
    if n < 1:
        raise DataError("the dataset is empty: there is no order to read it in")
    return n
