"""Strips of pictures with words: original | reconstruction | ..., a row a picture.

One drawing for training, `vlv reconstruct`, `vlv eval` and `vlv demo`, by Pillow alone.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

EDGE = 128
"""pixels of a picture's side, unless a strip says otherwise"""

GAP = 6
TEXT_WIDTH = 360
"""pixels for words that stand beside the pictures"""

_LINE_HEIGHT = 16
_MARK_WIDTH = 16
_INK, _FRAME, _RIGHT, _WRONG = "#1b1b1b", "#dddddd", "#1a7f37", "#c62828"
_TICK = ((1, 6), (4, 10), (10, 1))
_CROSS = ((2, 2), (9, 9)), ((9, 2), (2, 9))


class Line(NamedTuple):
    """Words of a row, and whether they are right where that is known."""

    text: str
    right: bool | None = None


class Row(NamedTuple):
    """Pictures uint8 (S, S, 3) from left to right, and words."""

    pictures: Sequence[NDArray[np.uint8]]
    lines: Sequence[Line] = ()


class _Piece(NamedTuple):
    """A line of words that fits its width; the mark stands at the first piece of a line."""

    text: str
    colour: str
    indent: int
    mark: bool | None


def strip(
    rows: Sequence[Row], *, titles: Sequence[str] = (), edge: int = EDGE, below: bool = False
) -> Image.Image:
    """Draw rows under each other; words stand beside the pictures, or `below` them."""
    columns = max(len(row.pictures) for row in rows)
    side = columns * (edge + GAP) + GAP
    has_words = any(row.lines for row in rows)
    width = side + (TEXT_WIDTH + GAP if has_words and not below else 0)
    room = side - 2 * GAP if below else TEXT_WIDTH
    words = [_pieces(row.lines, room) for row in rows]
    texts = [len(pieces) * _LINE_HEIGHT for pieces in words]
    heights = [edge + text + GAP * bool(text) if below else max(edge, text) for text in texts]
    top = GAP + (_LINE_HEIGHT if titles else 0)
    sheet = Image.new("RGB", (width, top + sum(heights) + GAP * len(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        pen.text((GAP + column * (edge + GAP), GAP / 2), title, _INK, _font())
    for row, pieces, height in zip(rows, words, heights, strict=True):
        for column, picture in enumerate(row.pictures):
            left = GAP + column * (edge + GAP)
            pen.rectangle((left - 1, top - 1, left + edge, top + edge), outline=_FRAME)
            sheet.paste(sized(picture, edge), (left, top))
        corner = (GAP, top + edge + GAP) if below else (side, top)
        _write(pen, pieces, corner)
        top += height + GAP
    return sheet


def sized(picture: NDArray[np.uint8], edge: int = EDGE) -> Image.Image:
    """A picture with sides of `edge`; enlarged pixels stay square, to show what a model draws."""
    image = Image.fromarray(picture)
    kernel = Image.Resampling.BOX if image.width > edge else Image.Resampling.NEAREST
    return image.resize((edge, edge), kernel)


def whole_edge(size: int) -> int:
    """The side at which nothing is lost: a small picture's is enlarged by a whole factor."""
    return size * max(1, -(-EDGE // size))


def png(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    stream = BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=12)


def _pieces(lines: Sequence[Line], room: int) -> list[_Piece]:
    pieces = []
    for text, right in lines:
        colour = _INK if right is None else _RIGHT if right else _WRONG
        indent = 0 if right is None else _MARK_WIDTH
        for number, part in enumerate(_wrapped(text, room - indent)):
            pieces.append(_Piece(part, colour, indent, right if number == 0 else None))
    return pieces


def _wrapped(text: str, room: int) -> list[str]:
    """Words that fit `room` pixels; a longer word than that is broken where it must be."""
    font, parts, line = _font(), [], ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if line and font.getlength(longer) > room:
            parts.append(line)
            longer = word
        # Nonsense of an untrained model has words without end.
        while font.getlength(longer) > room and len(longer) > 1:
            fits = max(1, int(len(longer) * room / font.getlength(longer)))
            parts.append(longer[:fits])
            longer = longer[fits:]
        line = longer
    return [*parts, line]


def _write(pen: ImageDraw.ImageDraw, pieces: Sequence[_Piece], corner: tuple[int, int]) -> None:
    left, top = corner
    for number, piece in enumerate(pieces):
        y = top + number * _LINE_HEIGHT
        pen.text((left + piece.indent, y), piece.text, piece.colour, _font())
        if piece.mark is not None:
            for stroke in (_TICK,) if piece.mark else _CROSS:
                pen.line([(left + dx, y + 2 + dy) for dx, dy in stroke], piece.colour, width=2)
