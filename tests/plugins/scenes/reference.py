"""Scenes drawn the slow way, from corner points and samples: what the renderer is compared with."""

from math import cos, hypot, pi, sin

import numpy as np
from numpy.typing import NDArray

from vlv_plugins.scenes.render import GAP, HOLE, OUTLINE, PERIOD
from vlv_plugins.scenes.vocabulary import BACKGROUND_RGB, COLOUR_RGB, SIZE_RADII
from vlv_plugins.scenes.world import Object, Scene

Points = NDArray[np.float64]

SAMPLES = 12
"""Sample points along each side of a pixel."""


def star_corners() -> list[tuple[float, float]]:
    """Five tips and five notches, from the topmost tip clockwise."""
    radii = (1.0, 0.42)
    return [(radii[n % 2] * sin(n * pi / 5), -radii[n % 2] * cos(n * pi / 5)) for n in range(10)]


HALF = 0.5**0.5  # of the side of a square within the unit circle

CORNERS: dict[str, list[list[tuple[float, float]]]] = {
    "square": [[(-HALF, -HALF), (HALF, -HALF), (HALF, HALF), (-HALF, HALF)]],
    "triangle": [[(0, -1), (0.75**0.5, 0.5), (-0.75**0.5, 0.5)]],
    "diamond": [[(0, -1), (0.66, 0), (0, 1), (-0.66, 0)]],
    "star": [star_corners()],
    "cross": [
        [(-0.95, -0.27), (0.95, -0.27), (0.95, 0.27), (-0.95, 0.27)],
        [(-0.27, -0.95), (0.27, -0.95), (0.27, 0.95), (-0.27, 0.95)],
    ],
    "arrow": [
        [(0, -1), (0.72, 0), (-0.72, 0)],
        [(-0.27, -0.5), (0.27, -0.5), (0.27, 0.95), (-0.27, 0.95)],
    ],
}  # fmt: skip
"""Polygons whose union is the shape, in radii, y down."""


def in_polygon(points: Points, corners: list[tuple[float, float]]) -> NDArray[np.bool_]:
    """Even-odd rule for points (n, 2)."""
    inside = np.zeros(len(points), dtype=bool)
    x, y = points[:, 0], points[:, 1]
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if y0 == y1:
            continue
        crosses = (y0 > y) != (y1 > y)
        inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return inside


def in_disc(points: Points, x: float, y: float, radius: float) -> NDArray[np.bool_]:
    """Which points (n, 2) lie in a disc."""
    return np.hypot(points[:, 0] - x, points[:, 1] - y) < radius


def in_heart(points: Points) -> NDArray[np.bool_]:
    """Two discs on the upper sides of a square that stands on its corner."""
    scaled = np.stack([points[:, 0] * 0.645, 0.605 - points[:, 1] * 0.645], axis=1)
    square = np.abs(scaled[:, 0]) + np.abs(scaled[:, 1] - 0.5) < 0.5
    lobe = 2**0.5 / 4
    return square | in_disc(scaled, 0.25, 0.75, lobe) | in_disc(scaled, -0.25, 0.75, lobe)


def in_shape(points: Points, shape: str) -> NDArray[np.bool_]:
    """Which points (n, 2), in radii and y down, lie in an upright shape."""
    if shape in CORNERS:
        return np.any([in_polygon(points, part) for part in CORNERS[shape]], axis=0)
    if shape == "heart":
        return in_heart(points)
    disc = in_disc(points, 0, 0, 1)
    if shape == "ring":
        return disc & ~in_disc(points, 0, 0, 0.5)
    return disc & ~in_disc(points, 0, -0.55, 0.8) if shape == "crescent" else disc


def own_points(points: Points, item: Object) -> Points:
    """Canvas points in pixels, turned back into the object's own axes, still in pixels."""
    turn = item.angle * pi / 180
    dx, dy = points[:, 0] - item.x, points[:, 1] - item.y
    return np.stack([dx * cos(turn) + dy * sin(turn), dy * cos(turn) - dx * sin(turn)], axis=1)


def in_object(points: Points, item: Object) -> NDArray[np.bool_]:
    """Which canvas points an object colours, its fill considered."""
    own, radius = own_points(points, item), SIZE_RADII[item.size]
    inside = in_shape(own / radius, item.shape)
    # Gaps lie half a period from the axes, and a period from each other.
    down = np.abs(own[:, 1] - PERIOD / 2 - np.round(own[:, 1] / PERIOD - 0.5) * PERIOD)
    across = np.abs(own[:, 0] - PERIOD / 2 - np.round(own[:, 0] / PERIOD - 0.5) * PERIOD)
    if item.fill == "striped":
        return inside & (down > GAP * PERIOD / 2)
    if item.fill == "dotted":
        return inside & (np.hypot(down, across) > HOLE)
    if item.fill == "outline":
        return inside & ~deep(own, radius, item.shape)
    return inside


def deep(own: Points, radius: float, shape: str) -> NDArray[np.bool_]:
    """Which points have nothing but the shape within an outline's width."""
    around = [(OUTLINE * cos(a), OUTLINE * sin(a)) for a in np.arange(0, 2 * pi, pi / 12)]
    return np.all([in_shape((own + step) / radius, shape) for step in around], axis=0)


def draw(scene: Scene) -> NDArray[np.float64]:
    """A scene of a plain background, by counting samples: float (64, 64, 3), 0..255."""
    offsets = (np.arange(64 * SAMPLES) + 0.5) / SAMPLES
    x, y = np.meshgrid(offsets, offsets)
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    canvas = np.tile(np.array(BACKGROUND_RGB[scene.background.colours[0]], float), (64, 64, 1))
    for item in scene.objects:
        near = np.flatnonzero(np.maximum(*np.abs(points - (item.x, item.y)).T) < hypot(12, 12))
        covered = np.zeros(len(points))
        covered[near] = in_object(points[near], item)
        share = covered.reshape(64, SAMPLES, 64, SAMPLES).mean(axis=(1, 3))[..., None]
        canvas = canvas * (1 - share) + share * np.array(COLOUR_RGB[item.colour], float)
    return canvas
