"""Scenes to pictures by signed distances, antialiased, a whole batch at a time.

Each object is drawn in a square patch only, all objects of one shape and size in one call.
Shape legend: B scenes, n objects of one size, P patch width in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from vlv_core.errors import UsageError
from vlv_plugins.scenes.arrays import SceneArrays
from vlv_plugins.scenes.backgrounds import draw_backgrounds
from vlv_plugins.scenes.shapes import Floats, signed_distance
from vlv_plugins.scenes.vocabulary import CANVAS, COLOUR_RGB, FILLS, SIZE_RADII
from vlv_plugins.scenes.world import Scene

OUTLINE = 1.5
"""Width of an outline, pixels inwards from the edge."""

PERIOD = 4.0
"""Pixels from one stripe or hole to the next, in the object's own axes."""

GAP = 0.45
"""Share of the period that is a gap between stripes."""

HOLE = 1.25
"""Radius of the holes of a dotted fill, pixels."""

_BORDER = 1
"""Pixels that the patch of an object may reach over the canvas."""

_CHUNK = 256  # scenes at once: enough objects of each shape for wide calls, little enough memory
_RADII = np.array(list(SIZE_RADII.values()))
_RGB = np.array(list(COLOUR_RGB.values()), dtype=np.float32)


def render(scenes: Sequence[Scene] | SceneArrays) -> NDArray[np.uint8]:
    """Pictures of the scenes: uint8 sRGB (B, CANVAS, CANVAS, 3), each the same in any batch.

    Raises UsageError for an object that reaches over the canvas.
    """
    arrays = scenes if isinstance(scenes, SceneArrays) else SceneArrays.of(scenes)
    _check(arrays)
    pictures = np.empty((len(arrays), CANVAS, CANVAS, 3), dtype=np.uint8)
    for start in range(0, len(arrays), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(arrays)))
        pictures[rows] = _render_chunk(arrays.take(rows))
    return pictures


def _check(arrays: SceneArrays) -> None:
    radius = np.where(arrays.present, _RADII[arrays.size], -np.inf)
    reach = np.maximum(np.abs(arrays.x - CANVAS / 2), np.abs(arrays.y - CANVAS / 2)) + radius
    beyond = np.flatnonzero((reach > CANVAS / 2).any(axis=1))
    if len(beyond):
        radii = ", ".join(f"{name} {radius:g} px" for name, radius in SIZE_RADII.items())
        raise UsageError(
            f"an object of scene {beyond[0]} reaches over the {CANVAS} x {CANVAS} canvas; "
            f"keep its centre at least its radius from every border ({radii})"
        )


@dataclass(frozen=True)
class _Patches:
    """The coverage of n objects of one size."""

    row: NDArray[np.int64]
    slot: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    coverage: NDArray[np.float32]
    """(n, P, P), 0..1."""


def _render_chunk(arrays: SceneArrays) -> NDArray[np.uint8]:
    wide = CANVAS + 2 * _BORDER
    canvas = np.zeros((len(arrays), wide, wide, 3), dtype=np.float32)
    inner = canvas[:, _BORDER:-_BORDER, _BORDER:-_BORDER]
    inner[:] = draw_backgrounds(arrays.kind, arrays.colours)
    sizes = [_patches(arrays, size) for size in range(len(SIZE_RADII))]
    for slot in range(arrays.shape.shape[1]):
        for patches in sizes:
            _paint(canvas, arrays, patches, slot=slot)
    return (inner + np.float32(0.5)).astype(np.uint8)


def _patches(arrays: SceneArrays, size: int) -> _Patches:
    row, slot = np.nonzero(arrays.present & (arrays.size == size))
    width = 2 * (ceil(_RADII[size]) + 1)
    x, y = arrays.x[row, slot], arrays.y[row, slot]
    left, top = (np.floor(centre).astype(np.int64) - width // 2 for centre in (x, y))
    offset = np.arange(width) + 0.5
    across = (left[:, None, None] + offset - x[:, None, None]).astype(np.float32)
    down = (top[:, None, None] + offset[:, None] - y[:, None, None]).astype(np.float32)
    turn = np.deg2rad(arrays.angle[row, slot])[:, None, None]
    cosine, sine = np.cos(turn).astype(np.float32), np.sin(turn).astype(np.float32)
    coverage = np.empty((len(row), width, width), dtype=np.float32)
    shape, fill = arrays.shape[row, slot], arrays.fill[row, slot]
    for code in np.unique(shape):
        of = shape == code
        own_x = cosine[of] * across[of] + sine[of] * down[of]
        own_y = cosine[of] * down[of] - sine[of] * across[of]
        radius = np.float32(_RADII[size])
        distance = signed_distance(code, own_x / radius, own_y / radius) * radius
        coverage[of] = np.clip(np.float32(0.5) - _filled(distance, own_x, own_y, fill[of]), 0, 1)
    return _Patches(row, slot, top, left, coverage)


def _filled(
    distance: NDArray[np.float32],
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    fill: NDArray[np.int64],
) -> NDArray[np.float32]:
    """The signed distance in pixels (n, P, P) once the fills are cut out of the solid shapes."""
    for name, cut in (("outline", _hollow), ("striped", _stripes), ("dotted", _dots)):
        of = fill == FILLS.index(name)
        if of.any():
            distance[of] = np.maximum(distance[of], -cut(distance[of], x[of], y[of]))
    return distance


def _hollow(distance: Floats, x: Floats, y: Floats) -> Floats:
    return distance + np.float32(OUTLINE)


def _stripes(distance: Floats, x: Floats, y: Floats) -> Floats:
    # Centred on a stripe, so that a shape is its own mirror image.
    return _to_next(y) - np.float32(GAP * PERIOD / 2)


def _dots(distance: Floats, x: Floats, y: Floats) -> Floats:
    return np.hypot(_to_next(x), _to_next(y)) - np.float32(HOLE)


def _to_next(along: Floats) -> Floats:
    """Distance to the nearest middle of a gap; the middles lie half a period off the axis."""
    return np.abs(along % np.float32(PERIOD) - np.float32(PERIOD / 2))


def _paint(canvas: Floats, arrays: SceneArrays, patches: _Patches, *, slot: int) -> None:
    """Lay the objects of one slot over the canvas, (B, CANVAS + 2 * _BORDER, same, 3)."""
    of = np.flatnonzero(patches.slot == slot)
    row, span = patches.row[of], np.arange(patches.coverage.shape[1])
    wide = canvas.shape[1]
    down = (patches.top[of, None] + span + _BORDER)[:, :, None]
    across = (patches.left[of, None] + span + _BORDER)[:, None, :]
    pixels = (row[:, None, None] * wide + down) * wide + across
    flat = canvas.reshape(-1, 3)
    behind = flat[pixels]
    colour = _RGB[arrays.colour[row, slot]][:, None, None]
    flat[pixels] = behind + patches.coverage[of, ..., None] * (colour - behind)
