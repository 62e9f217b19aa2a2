"""The pictures of a split, spoilt where the split says so."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlv_core.randomness import Purpose, key_of, normal_rows
from vlv_plugins.scenes.render import render
from vlv_plugins.scenes.splits import scene_arrays
from vlv_plugins.scenes.world import World

Pictures = NDArray[np.uint8]

NOISE_SIGMA = 25.0
"""Standard deviation of the noise split, in grey levels of 255."""

JPEG_QUALITY = 10
"""Quality of the jpeg split on Pillow's scale of 0 to 95."""


def pictures(world: World, split: str, indices: Sequence[int]) -> Pictures:
    """What the scenes of a split look like: uint8 (B, 64, 64, 3).

    Raises UsageError for an unknown split or a negative index.
    """
    clean = render(scene_arrays(world, split, indices))
    if split == "noise":
        return noise(clean, indices=indices)
    return jpeg(clean) if split == "jpeg" else clean


def noise(clean: Pictures, *, indices: Sequence[int], sigma: float = NOISE_SIGMA) -> Pictures:
    """Add Gaussian noise; each picture's own depends on its index alone."""
    added = normal_rows(
        key_of("shapescape-64/noise"),
        purpose=Purpose.DATA,
        step=0,
        keys=indices,
        shape=clean.shape[1:],
    )
    return (clean + sigma * added).round().clip(0, 255).astype(np.uint8)


def jpeg(clean: Pictures, *, quality: int = JPEG_QUALITY) -> Pictures:
    """Compress as JPEG and read back."""
    spoilt = np.empty_like(clean)
    for row, picture in enumerate(clean):
        stream = BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", quality=quality)
        spoilt[row] = np.asarray(Image.open(stream))
    return spoilt
