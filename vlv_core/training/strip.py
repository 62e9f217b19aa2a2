"""The picture strip of a training: original | reconstruction | caption, a row a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlv_core.captioner import Captioner
from vlv_core.errors import DataError
from vlv_core.files import write_atomically
from vlv_core.preprocess import to_view
from vlv_core.protocols import Dataset
from vlv_core.specs import View
from vlv_core.strips import Line, Row, png, strip


class StripRow(NamedTuple):
    """One line of the strip; a stage that has no captions yet leaves them out."""

    original: NDArray[np.uint8]
    """(S, S, 3)"""
    reconstruction: NDArray[np.uint8]
    """(S, S, 3)"""
    caption: str | None = None


def draw_strip(rows: Sequence[StripRow], path: Path) -> None:
    """Write the strip as PNG, whole or not at all."""
    sheet = strip(
        [
            Row(
                (row.original, row.reconstruction),
                () if row.caption is None else [Line(row.caption)],
            )
            for row in rows
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, png(sheet))


def strip_rows(
    captioner: Captioner, views: Sequence[NDArray[np.uint8]], *, captions: bool
) -> list[StripRow]:
    """Each view (S, S, 3) beside its reconstruction from the embedding, and its caption."""
    encoded = captioner.encode(np.stack(views))
    drawn = captioner.reconstruct(encoded, seed=0, keys=range(len(views)))
    words = [item.text for item in captioner.caption(encoded)] if captions else [None] * len(views)
    return [StripRow(*row) for row in zip(views, drawn, words, strict=True)]


def readable(dataset: Dataset, *, view: View, count: int) -> list[NDArray[np.uint8]]:
    """Views of the first `count` samples, less those that cannot be read."""
    views = []
    for index in range(min(count, len(dataset))):
        try:
            views.append(to_view(dataset[index].load(), view))
        except (DataError, OSError, ValueError):
            continue
    return views
