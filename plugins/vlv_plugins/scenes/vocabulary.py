"""The words and the numbers behind them: one vocabulary, from which each world takes a part.

Array codes (`SceneArrays`) are indices into these tuples: their order belongs to the world version.
"""

from types import MappingProxyType

CANVAS = 64
"""Width and height of a picture, in pixels."""

SHAPES = (
    "circle", "square", "triangle", "diamond", "star",
    "cross", "ring", "crescent", "heart", "arrow",
)  # fmt: skip

COLOUR_RGB = MappingProxyType(
    {
        "red": (220, 30, 40),
        "orange": (255, 140, 0),
        "yellow": (255, 225, 30),
        "green": (20, 150, 50),
        "cyan": (0, 210, 220),
        "blue": (30, 70, 230),
        "purple": (145, 25, 150),
        "pink": (255, 130, 190),
        "brown": (125, 70, 25),
        "lime": (150, 240, 60),
    }
)
"""Object colours, sRGB."""

BACKGROUND_RGB = MappingProxyType(
    {
        "white": (255, 255, 255),
        "silver": (200, 200, 200),
        "grey": (128, 128, 128),
        "charcoal": (64, 64, 64),
        "black": (0, 0, 0),
        "cream": (250, 240, 210),
        "navy": (15, 20, 60),
    }
)
"""Background colours, sRGB; no name is shared with an object."""

SIZE_RADII = MappingProxyType({"small": 5.0, "medium": 8.0, "large": 12.0})
"""Radius in pixels of the disc that holds the shape."""

COLOURS = tuple(COLOUR_RGB)
BACKGROUND_COLOURS = tuple(BACKGROUND_RGB)
SIZES = tuple(SIZE_RADII)
FILLS = ("solid", "outline", "striped", "dotted")
BACKGROUND_KINDS = ("plain", "gradient", "checker", "stripes", "horizon", "dots")
UNORDERED_KINDS = ("checker", "stripes")
"""Kinds whose two colours play the same part: captions name them in vocabulary order."""

CELLS = (
    "top left", "top", "top right",
    "left", "centre", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip
"""The 3 x 3 grid in reading order: cell = 3 * row + column."""
