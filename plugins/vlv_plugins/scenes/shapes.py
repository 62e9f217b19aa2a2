"""The ten shapes as signed distances in the unit disc, and how far each may turn.

Every distance takes x (right) and y (down) of any one shape, in units of the object's radius, and
returns the signed distance in the same units: negative inside. Each shape lies in the unit disc and
is symmetric about the y axis, so that a mirrored object is again an object. Distances are exact
near the outline away from corners, which is all that antialiasing needs. Source of the heart: Inigo
Quilez, "2D distance functions".
"""

from collections.abc import Callable, Mapping
from functools import cache
from math import cos, pi, sin, sqrt
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from vlv_plugins.scenes.vocabulary import SHAPES

Floats = NDArray[np.floating]
Sdf = Callable[[Floats, Floats], Floats]

TURNS: Mapping[str, int] = MappingProxyType(
    {
        "circle": 0,
        "square": 12,  # a square and a diamond stay at least 21 degrees apart
        "triangle": 20,
        "diamond": 12,
        "star": 36,
        "cross": 20,
        "ring": 0,
        "crescent": 45,
        "heart": 25,
        "arrow": 180,
    }
)
"""Largest turn from upright, in whole degrees either way."""


def _circle(x: Floats, y: Floats) -> Floats:
    return np.hypot(x, y) - np.float32(1)


def _square(x: Floats, y: Floats) -> Floats:
    return np.maximum(np.abs(x), np.abs(y)) - np.float32(sqrt(0.5))


def _triangle(x: Floats, y: Floats) -> Floats:
    sides = np.abs(x) * np.float32(sqrt(3) / 2) - y * np.float32(0.5)
    return np.maximum(sides, y) - np.float32(0.5)


def _diamond(x: Floats, y: Floats) -> Floats:
    wide, tall = 0.66, 1.0  # narrower than tall, so that it is no turned square
    norm = sqrt(wide**2 + tall**2)
    return (
        np.abs(x) * np.float32(tall / norm)
        + np.abs(y) * np.float32(wide / norm)
        - np.float32(wide * tall / norm)
    )


def _star(x: Floats, y: Floats) -> Floats:
    inner = 0.42
    sector = pi / 5
    # Fold the plane into one half point: the tip at angle 0, the notch at angle pi / 5.
    angle = np.arctan2(np.abs(x), -y)
    folded = np.abs((angle + np.float32(sector)) % np.float32(2 * sector) - np.float32(sector))
    radius = np.hypot(x, y)
    along, across = radius * np.cos(folded), radius * np.sin(folded)
    edge_along, edge_across = inner * cos(sector) - 1, inner * sin(sector)
    length = sqrt(edge_along**2 + edge_across**2)
    normal_along, normal_across = np.float32(edge_across / length), np.float32(-edge_along / length)
    return (along - np.float32(1)) * normal_along + across * normal_across


def _cross(x: Floats, y: Floats) -> Floats:
    long, short = np.float32(0.95), np.float32(0.27)
    x, y = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(x - long, y - short), np.maximum(x - short, y - long))


def _ring(x: Floats, y: Floats) -> Floats:
    outer, inner = 1.0, 0.5
    return np.abs(np.hypot(x, y) - np.float32((outer + inner) / 2)) - np.float32(
        (outer - inner) / 2
    )


def _crescent(x: Floats, y: Floats) -> Floats:
    bite = np.hypot(x, y + np.float32(0.55)) - np.float32(0.8)
    return np.maximum(np.hypot(x, y) - np.float32(1), -bite)


def _heart(x: Floats, y: Floats) -> Floats:
    # The published heart is about 1.2 wide, with its tip at the origin and its top near 1.1.
    unit = np.float32(0.645)
    across, up = np.abs(x) * unit, np.float32(0.605) - y * unit
    lobe = np.hypot(across - np.float32(0.25), up - np.float32(0.75)) - np.float32(sqrt(2) / 4)
    along = np.float32(0.5) * np.maximum(across + up, np.float32(0))
    notch = across**2 + (up - np.float32(1)) ** 2
    side = (across - along) ** 2 + (up - along) ** 2
    body = np.sqrt(np.minimum(notch, side)) * np.sign(across - up)
    return np.where(across + up > 1, lobe, body) / unit


def _arrow(x: Floats, y: Floats) -> Floats:
    x = np.abs(x)
    head_half, head_base = 0.72, 0.0
    norm = sqrt(head_half**2 + (1 + head_base) ** 2)
    slope = x * np.float32((1 + head_base) / norm) - (y + np.float32(1)) * np.float32(
        head_half / norm
    )
    head = np.maximum(slope, y - np.float32(head_base))
    shaft = np.maximum(x - np.float32(0.27), np.maximum(y - np.float32(0.95), -y - np.float32(0.5)))
    return np.minimum(head, shaft)


_SDFS: tuple[Sdf, ...] = (
    _circle, _square, _triangle, _diamond, _star, _cross, _ring, _crescent, _heart, _arrow,
)  # fmt: skip


def signed_distance(shape: int, x: Floats, y: Floats) -> Floats:
    """Signed distance of one of `SHAPES` by its code; `x` and `y` of any one shape, in radii."""
    # The disc cuts off what the straight sides of a sharp tip would add beyond it.
    return np.maximum(_SDFS[shape](x, y), np.hypot(x, y) - np.float32(1))


CAP_STEPS = 40
"""Resolution of `caps`: depths of 0 to 2 radii."""


@cache
def caps() -> NDArray[np.float64]:
    """The largest share of a shape's area that a half-plane of each depth can cover.

    (shapes, CAP_STEPS + 1), rising; entry k is for the worst half-plane that reaches
    2 * k / CAP_STEPS into the unit disc. A disc covers no more than the half-plane around it, so
    this bounds occlusion from above.
    """
    axis = np.linspace(-1, 1, 81, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    directions = np.arange(0, 2 * pi, pi / 24)
    depths = np.linspace(0, 2, CAP_STEPS + 1)
    table = np.empty((len(SHAPES), len(depths)))
    for code in range(len(SHAPES)):
        inside = signed_distance(code, x, y) < 0
        points = np.stack([x[inside], y[inside]], axis=1)
        reach = np.sort(points @ np.stack([np.cos(directions), np.sin(directions)]), axis=0)
        outside = np.array([np.searchsorted(column, 1 - depths) for column in reach.T]).min(axis=0)
        table[code] = 1 - outside / len(points)
    return table
