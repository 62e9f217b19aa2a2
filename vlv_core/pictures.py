"""Opening pictures of any origin as upright RGB, or refusing them with a one-line reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vlv_core.errors import DataError

MAX_PIXELS = 178_956_970
"""largest width x height that is decoded: Pillow's own limit, half a gigabyte as RGB"""

# fmt: off
PICTURE_SUFFIXES = frozenset({
    ".apng", ".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tif", ".tiff", ".webp",
})
# fmt: on
"""lower-case endings by which a folder's pictures are told from its other files"""

Source = str | Path | bytes | Image.Image | NDArray[Any]

# Pillow also opens formats that start other programs (EPS) or have no signature (TGA): left out.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "QOI", "HEIF")
_USUAL = {b"\xff\xd8\xff": ("JPEG",), b"\x89PNG\r\n\x1a\n": ("PNG",)}

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112


def open_picture(source: Source, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture as Pillow RGB: upright by its EXIF, first frame, alpha over white.

    `source` is a path, an encoded file's bytes, a Pillow image, or an array uint8 or uint16 of
    shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4). 16-bit values are scaled to 8 bits. The size
    is checked on the header, before any pixel is decoded; `max_pixels` above `MAX_PIXELS` has
    effect only if Pillow's own limit is raised too.

    Raises DataError with a one-line reason if the source is not a whole picture.
    """
    if isinstance(source, str | Path):
        return _open_path(Path(source), max_pixels)
    if isinstance(source, bytes):
        return _decode(BytesIO(source), max_pixels)
    image = _from_array(source) if isinstance(source, np.ndarray) else source
    if not isinstance(image, Image.Image):
        raise DataError(
            f"{type(source).__name__} is not a picture; known: a path, bytes, a PIL image, an array"
        )
    return _upright_rgb(image, max_pixels)


def _open_path(path: Path, max_pixels: int) -> Image.Image:
    try:
        # A pipe or device would block for ever, so only plain files are opened.
        if path.exists() and not path.is_file():
            raise DataError("not a file")
        with path.open("rb") as stream:
            return _decode(stream, max_pixels)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {str(path)!r}: {reason}") from None
    except DataError as error:
        raise DataError(f"cannot read {str(path)!r}: {error.message}", hint=error.hint) from None


def _decode(stream: BinaryIO, max_pixels: int) -> Image.Image:
    head = stream.read(1024)
    stream.seek(0)
    if reason := _not_a_picture(head):
        raise DataError(reason)
    # Only one format begins so, and Pillow need not import its forty others.
    formats = next((names for start, names in _USUAL.items() if head.startswith(start)), None)
    with _one_line_reasons(), Image.open(stream, formats=formats or _formats()) as image:
        return _upright_rgb(image, max_pixels)


def _not_a_picture(head: bytes) -> str | None:
    """The reason for well-known strangers, which Pillow would only call unidentified."""
    if not head:
        return "the file is empty"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start and start.startswith(b"<"):
        return "this is SVG, a drawing without pixels"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<!--")):
        return "this is a web page (HTML or XML), not a picture"
    if head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1") and "HEIF" not in _formats():
        return "this is HEIC, which Pillow does not read by itself"
    return None


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@contextmanager
def _one_line_reasons() -> Iterator[None]:
    """Turn whatever a decoder raises over a damaged or hostile file into DataError."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError:
        known = ", ".join(_formats())
        raise DataError(f"not a picture, or one with a damaged header; known: {known}") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"too many pixels: {error}", hint="shrink the picture first") from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"damaged picture: {reason}") from error


def _upright_rgb(image: Image.Image, max_pixels: int) -> Image.Image:
    width, height = image.size
    if width * height > max_pixels:
        raise DataError(
            f"{width} x {height} pixels are too many, the limit is {max_pixels}",
            hint="shrink the picture first",
        )
    if not width * height:
        raise DataError(f"{width} x {height} pixels: nothing to see")
    with _one_line_reasons():
        image.load()
        turn = _TURNS.get(_orientation(image))
        if turn is None:
            return _to_rgb(image)
        upright = _to_rgb(image.transpose(turn))
        # Pillow copied the EXIF too: left there, whoever opens the result would turn it again.
        upright.info = {}
        return upright


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        # Damaged metadata says nothing about the pixels, which are whole.
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_array(_sixteen_bits(image)).convert("RGB")
    if image.mode == "F":
        raise DataError("32-bit float pixels have no agreed white; store 8 or 16 bits")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" else image


def _sixteen_bits(image: Image.Image) -> NDArray[np.uint16]:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise DataError("32-bit integer pixels have no agreed white; store 8 or 16 bits")
    return values.astype(np.uint16)


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype == np.uint16:
        # 65535 / 255 = 257: the rounded quotient keeps black black and white white.
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype != np.uint8:
        raise DataError(
            f"an array of {array.dtype} is not a picture; known: uint8, uint16",
            hint="scale to 0..255 and convert with .astype('uint8')",
        )
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] not in (3, 4)):
        raise DataError(
            f"an array of shape {array.shape} is not a picture; known: (H, W), (H, W, 1), "
            "(H, W, 3), (H, W, 4)"
        )
    if not array.size:
        raise DataError(f"an array of shape {array.shape} is empty")
    return Image.fromarray(np.ascontiguousarray(array))
