"""Pictures into views and pixels, by numpy and Pillow only.

Training, the runtime and the benchmarks all come through here, so that a picture looks the same to
each. Geometry of views follows torchvision's Resize and CenterCrop as applied to Pillow images;
that of pixels follows transformers' processors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlv_core.pictures import MAX_PIXELS, PICTURE_SUFFIXES, Source, open_picture
from vlv_core.specs import Fit, PixelSpec, Resample, View

__all__ = ["MAX_PIXELS", "PICTURE_SUFFIXES", "open_picture", "to_pixels", "to_view", "views"]

_FILTERS: dict[Resample, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "area": Image.Resampling.BOX,
}

_LONGEST = 16
"""how many views long a resized picture may get before it is cropped while being resized"""


def to_view(source: Source, view: View) -> NDArray[np.uint8]:
    """The view uint8 (S, S, 3) of anything that `open_picture` opens; a view is left as it is.

    Raises DataError if the source is not a whole picture.
    """
    if _is_view(source, view):
        return source  # type: ignore[return-value]
    return np.array(_fit(open_picture(source), view.size, view.fit, view.resample))


def views(pictures: Sequence[Source] | Source, view: View) -> NDArray[np.uint8]:
    """Views uint8 (B, S, S, 3) of pictures, or of a single one (B = 1).

    Raises DataError if one of them is not a whole picture.
    """
    single = isinstance(pictures, str | Path | bytes | Image.Image) or (
        isinstance(pictures, np.ndarray) and pictures.ndim < 4
    )
    sources: Sequence[Source] = [pictures] if single else pictures  # type: ignore
    shape = (len(sources), view.size, view.size, 3)
    out = np.empty(shape, np.uint8)
    for row, source in enumerate(sources):
        out[row] = to_view(source, view)
    return out


def to_pixels(view: NDArray[np.uint8], pixels: PixelSpec) -> NDArray[np.uint8]:
    """Views uint8 (..., H, W, 3) at the encoder's own size: uint8 (..., size, size, 3).

    Resized by Pillow on the host, exactly as the original processors do it; rescaling and mean/std
    are left to the encoder's graph.
    """
    size, edge = pixels.size, pixels.edge or pixels.size
    if view.shape[-3:-1] == (edge, edge) == (size, size):
        return view
    kernel = _FILTERS[pixels.resample]
    flat = view.reshape(-1, *view.shape[-3:])
    out = np.empty((len(flat), size, size, 3), np.uint8)
    for row, picture in enumerate(flat):
        image = Image.fromarray(picture)
        if pixels.fit == "crop":
            out[row] = np.asarray(_crop(image, size, kernel, edge=edge, middle=_floor))
        else:
            out[row] = np.asarray(_fit(image, size, pixels.fit, pixels.resample))
    return out.reshape(*view.shape[:-3], size, size, 3)


def _is_view(source: Source, view: View) -> bool:
    return (
        isinstance(source, np.ndarray)
        and source.dtype == np.uint8
        and source.shape == (view.size, view.size, 3)
    )


def _fit(image: Image.Image, size: int, fit: Fit, resample: Resample) -> Image.Image:
    kernel = _FILTERS[resample]
    if fit == "squash":
        return image.resize((size, size), kernel)
    return _crop(image, size, kernel) if fit == "crop" else _pad(image, size, kernel)


def _to_even(rest: int) -> int:
    """Halves round to even, because torchvision's `int(round(x / 2.0))` is Python's round."""
    return round(rest / 2)


def _floor(rest: int) -> int:
    """Halves round down, as in transformers' `center_crop`."""
    return rest // 2


def _crop(
    image: Image.Image,
    size: int,
    kernel: Any,
    *,
    edge: int | None = None,
    middle: Callable[[int], int] = _to_even,
) -> Image.Image:
    """Shorter side to `edge` (or `size`), then the centre; `middle` says where that begins."""
    width, height = image.size
    short, edge = min(width, height), edge or size
    wide, high = edge * width // short, edge * height // short
    left, top = middle(wide - size), middle(high - size)
    if max(wide, high) > _LONGEST * edge:
        # 1 x 20000 would become 384 x 7680000: resize the part that is kept, and that alone.
        box = (left * width / wide, top * height / high)
        end = ((left + size) * width / wide, (top + size) * height / high)
        return image.resize((size, size), kernel, box=(*box, *end))
    resized = image.resize((wide, high), kernel)
    return resized.crop((left, top, left + size, top + size))


def _pad(image: Image.Image, size: int, kernel: Any) -> Image.Image:
    """Longer side to `size`, centred on white."""
    width, height = image.size
    long = max(width, height)
    wide, high = max(1, round(size * width / long)), max(1, round(size * height / long))
    canvas = Image.new("RGB", (size, size), "white")
    canvas.paste(image.resize((wide, high), kernel), ((size - wide) // 2, (size - high) // 2))
    return canvas
