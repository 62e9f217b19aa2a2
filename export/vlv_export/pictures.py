"""Pictures made of numbers alone, for models whose own world is not at hand.

They hold edges, gradients, discs and noise at many scales, so that an encoder's whole input range
is used. The same seed gives the same pictures everywhere.
"""

import numpy as np
from numpy.typing import NDArray

from vlv_core.randomness import Purpose, generator

ODD_SIZES = ((97, 61), (40, 203), (128, 128), (333, 250))
"""height, width of pictures that a resize, a crop and a pad each treat differently"""
SHAPES = 6
"""discs and boxes a picture"""


def synthetic(count: int, *, height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Pictures uint8 (count, height, width, 3)."""
    return np.stack([_picture(height, width, seed=seed, key=key) for key in range(count)])


def odd(seed: int) -> list[NDArray[np.uint8]]:
    """One picture of each of `ODD_SIZES`."""
    return [
        _picture(height, width, seed=seed, key=1_000_000 + key)
        for key, (height, width) in enumerate(ODD_SIZES)
    ]


def _picture(height: int, width: int, *, seed: int, key: int) -> NDArray[np.uint8]:
    draw = generator(seed, purpose=Purpose.DATA, step=0, key=key)
    rows, columns = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None, :]
    corners = draw.uniform(0, 255, (4, 3))
    canvas = (
        corners[0] * ((1 - rows) * (1 - columns))[..., None]
        + corners[1] * ((1 - rows) * columns)[..., None]
        + corners[2] * (rows * (1 - columns))[..., None]
        + corners[3] * (rows * columns)[..., None]
    )
    for index in range(SHAPES):
        y, x, reach = draw.uniform(0, 1), draw.uniform(0, 1), draw.uniform(0.05, 0.3)
        inside = np.maximum(abs(rows - y), abs(columns - x)) < reach
        if index % 2:
            inside = (rows - y) ** 2 + (columns - x) ** 2 < reach**2
        canvas[inside] = draw.uniform(0, 255, 3)
    canvas += draw.normal(0, draw.uniform(0, 12), canvas.shape)
    return canvas.round().clip(0, 255).astype(np.uint8)
