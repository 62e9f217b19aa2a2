"""What lies behind the objects, as one weight a pixel: how much of the second colour it shows.

Every kind looks the same in a mirror, but for the checker, whose colours a mirror exchanges.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from vlv_plugins.scenes.vocabulary import BACKGROUND_KINDS, BACKGROUND_RGB, CANVAS

TILE = 16
"""Pixels from one tile, stripe pair or dot to the next; a divisor of the canvas."""

HORIZON = 40
"""Height of the horizon, pixels from the top."""

_DOT_RADIUS = 3.0
_RGB = np.array(list(BACKGROUND_RGB.values()), dtype=np.float32)


@cache
def _weights() -> NDArray[np.float32]:
    """Share of the second colour in each pixel, (kinds, CANVAS, CANVAS), in 0..1."""
    middle = np.arange(CANVAS) + 0.5
    x, y = np.meshgrid(middle, middle)
    tile_x, tile_y = x // TILE, y // TILE
    from_dot = np.hypot(x % TILE - TILE / 2, y % TILE - TILE / 2) - _DOT_RADIUS
    drawn = {
        "plain": np.zeros_like(x),
        "gradient": (y - 0.5) / (CANVAS - 1),
        "checker": (tile_x + tile_y) % 2,
        "stripes": y // (TILE // 2) % 2,
        "horizon": y > HORIZON,
        "dots": np.clip(0.5 - from_dot, 0, 1),
    }
    return np.stack([drawn[kind] for kind in BACKGROUND_KINDS]).astype(np.float32)


def draw_backgrounds(kind: NDArray[np.int64], colours: NDArray[np.int64]) -> NDArray[np.float32]:
    """Backgrounds of codes (B,) and (B, 2): float (B, CANVAS, CANVAS, 3), 0..255."""
    first, second = _RGB[colours[:, 0], None, None], _RGB[colours[:, 1], None, None]
    canvas = np.empty((len(kind), CANVAS, CANVAS, 3), dtype=np.float32)
    canvas[:] = first
    mixed = np.flatnonzero(kind != BACKGROUND_KINDS.index("plain"))
    canvas[mixed] += _weights()[kind[mixed], ..., None] * (second - first)[mixed]
    return canvas
