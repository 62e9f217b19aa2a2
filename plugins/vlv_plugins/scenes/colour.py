"""CIELAB, to keep every object distinct from what lies behind it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Colours = Sequence[tuple[int, int, int]] | NDArray[np.float64]
"""sRGB in 0..255, (..., 3)."""

# IEC 61966-2-1: linear sRGB to CIE XYZ, and the D65 white point that it maps (1, 1, 1) to.
_XYZ_FROM_RGB = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_WHITE = _XYZ_FROM_RGB.sum(axis=1)


def lab(rgb: Colours) -> NDArray[np.float64]:
    """The colours in CIELAB under D65, (..., 3)."""
    encoded = np.asarray(rgb, dtype=np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    ratio = linear @ _XYZ_FROM_RGB.T / _WHITE
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def delta_e(first: Colours, second: Colours) -> NDArray[np.float64]:
    """CIE 1976 colour difference of every pair, (len(first), len(second))."""
    return np.linalg.norm(lab(first)[:, None] - lab(second)[None], axis=-1)
