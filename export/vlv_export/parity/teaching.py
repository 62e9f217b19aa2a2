"""Teacher forcing on any backend: what a head answers along captions that are given to it.

The eager model's golden values and an artefact's answers come through here alike.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlv_core.protocols import TopK


def teach(
    backend: Any,
    prefix: NDArray[np.float32],
    captions: Sequence[Sequence[int]],
    *,
    positions: Sequence[int],
    k: int,
) -> list[TopK]:
    """The best k next tokens at the first `positions[row]` positions of each caption.

    prefix (B, M, Dl); one `TopK` of (positions[row], k) a row. Position 0 is the prefill; a row
    leaves the batch when it is done, as in the decode loop.
    """
    asked = np.array(positions)
    stepper = backend.start(prefix, prefix.shape[1] + max(positions))
    found: list[list[TopK]] = [[] for _ in captions]
    rows, top = np.arange(len(captions)), stepper.prefill(k)
    for step in range(max(positions)):
        for index, row in enumerate(rows):
            found[row].append(TopK(top.log_probs[index].copy(), top.ids[index].copy()))
        going = np.flatnonzero(asked[rows] > step + 1)
        if not going.size:
            break
        if going.size < rows.size:
            stepper.select(going)
            rows = rows[going]
        top = stepper.step(np.array([captions[row][step] for row in rows.tolist()], np.int64), k)
    return [TopK(*map(np.stack, zip(*each, strict=True))) for each in found]
