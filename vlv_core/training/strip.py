"""The picture strip of a training: original | reconstruction | caption, a row a picture."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vlv_core.captioner import Captioner
from vlv_core.errors import DataError
from vlv_core.preprocess import to_view
from vlv_core.protocols import Dataset
from vlv_core.specs import View

EDGE = 128
"""pixels of a picture in the strip; smaller views are enlarged by whole factors"""
TEXT_WIDTH = 360
GAP = 6


class StripRow(NamedTuple):
    """One line of the strip; a stage that has no captions yet leaves them out."""

    original: NDArray[np.uint8]
    """(S, S, 3)"""
    reconstruction: NDArray[np.uint8]
    """(S, S, 3)"""
    caption: str | None = None


def draw_strip(rows: Sequence[StripRow], path: Path) -> None:
    """Write the strip as PNG, whole or not at all."""
    has_words = any(row.caption is not None for row in rows)
    width = 2 * EDGE + 3 * GAP + (TEXT_WIDTH if has_words else 0)
    sheet = Image.new("RGB", (width, len(rows) * (EDGE + GAP) + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    for number, row in enumerate(rows):
        top = GAP + number * (EDGE + GAP)
        for column, picture in enumerate((row.original, row.reconstruction)):
            sheet.paste(_sized(picture), (GAP + column * (EDGE + GAP), top))
        if row.caption is not None:
            lines = textwrap.wrap(row.caption, width=TEXT_WIDTH // 7)[: EDGE // 15]
            pen.multiline_text(
                (2 * EDGE + 3 * GAP, top), "\n".join(lines), "black", font, spacing=3
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    sheet.save(partial, format="PNG")
    partial.replace(path)


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


def _sized(picture: NDArray[np.uint8]) -> Image.Image:
    """At the strip's edge; enlarged pixels stay square, so that one sees what the model draws."""
    image = Image.fromarray(picture)
    larger = image.size[0] > EDGE
    return image.resize((EDGE, EDGE), Image.Resampling.BOX if larger else Image.Resampling.NEAREST)
