"""Samples that lie together, in shards or row groups: each group is opened once a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vlv_core.protocols import Sample


def read_grouped(
    indices: Sequence[int],
    ends: NDArray[np.int64],
    read: Callable[[int, NDArray[np.int64]], Sequence[Sample]],
) -> list[Sample]:
    """The samples at `indices`, in the order asked for.

    Group g ends before index `ends[g]`; `read(g, indices of g, ascending)` gives its samples.
    Raises IndexError for one that is not there.
    """
    wanted = np.asarray(indices, np.int64)
    count = int(ends[-1]) if len(ends) else 0
    if wanted.size and not 0 <= wanted.min() <= wanted.max() < count:
        raise IndexError(f"the dataset has {count} samples")
    groups = np.searchsorted(ends, wanted, side="right")
    found: dict[int, Sample] = {}
    for group in np.unique(groups).tolist():
        places = np.flatnonzero(groups == group)
        places = places[np.argsort(wanted[places], kind="stable")]
        found |= zip(places.tolist(), read(group, wanted[places]), strict=True)
    return [found[place] for place in range(len(wanted))]
