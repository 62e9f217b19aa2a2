"""Which backgrounds a world may use, and which object colours each leaves distinct."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from vlv_plugins.scenes.colour import delta_e
from vlv_plugins.scenes.vocabulary import (
    BACKGROUND_COLOURS,
    BACKGROUND_KINDS,
    BACKGROUND_RGB,
    COLOUR_RGB,
)
from vlv_plugins.scenes.world import MIN_DELTA_E, World

MIN_PAIR_DELTA_E = 25.0
"""Least difference between the two colours of one background."""

MIN_CHOICE = 4
"""Fewest object colours that a background must leave."""


def shades(kind: str, first: str, second: str) -> NDArray[np.float64]:
    """Every colour that a background shows, sRGB (n, 3); a gradient is sampled at nine steps."""
    ends = np.array([BACKGROUND_RGB[first], BACKGROUND_RGB[second]], dtype=np.float64)
    if kind != "gradient":
        return ends
    mix = np.linspace(0, 1, 9)[:, None]
    return ends[0] * (1 - mix) + ends[1] * mix


@cache
def allowed_colours(world: World) -> NDArray[np.bool_]:
    """Which object colours stand out, by code: (kinds, first, second, object colours)."""
    rgb = np.array(list(COLOUR_RGB.values()), dtype=np.float64)
    shape = (len(BACKGROUND_KINDS), len(BACKGROUND_COLOURS), len(BACKGROUND_COLOURS), len(rgb))
    allowed = np.zeros(shape, dtype=bool)
    in_world = np.array([name in world.colours for name in COLOUR_RGB])
    for kind, first, second in np.ndindex(shape[:3]):
        names = BACKGROUND_KINDS[kind], BACKGROUND_COLOURS[first], BACKGROUND_COLOURS[second]
        difference = delta_e(rgb, shades(*names)).min(axis=1)
        allowed[kind, first, second] = in_world & (difference >= MIN_DELTA_E)
    return allowed


@cache
def backgrounds(world: World, kind: str) -> NDArray[np.int64]:
    """The colour pairs that a world uses for one kind of background, as codes (n, 2)."""
    names = [BACKGROUND_COLOURS.index(name) for name in world.background_colours]
    rgb = list(BACKGROUND_RGB.values())
    apart = delta_e(rgb, rgb) >= MIN_PAIR_DELTA_E
    choice = allowed_colours(world)[BACKGROUND_KINDS.index(kind)].sum(axis=-1) >= MIN_CHOICE
    usable = choice & (np.eye(len(rgb), dtype=bool) if kind == "plain" else apart)
    return np.array([(a, b) for a in names for b in names if usable[a, b]], dtype=np.int64)
