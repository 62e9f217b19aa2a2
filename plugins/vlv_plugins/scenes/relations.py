"""When one object is clearly left of, right of, above or below another."""

import numpy as np
from numpy.typing import NDArray

from vlv_plugins.scenes.world import Object

MIN_DISTANCE = 8
"""Pixels between the centres along the axis of the relation."""

MIN_RATIO = 1.5
"""How many times the other axis' distance that must be."""

OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
RELATIONS = tuple(OPPOSITE)


def relation(first: Object, second: Object) -> str | None:
    """How `first` lies to `second`, or None where no word is clear. At most one relation holds."""
    dx, dy = second.x - first.x, second.y - first.y
    if abs(dx) >= max(MIN_DISTANCE, MIN_RATIO * abs(dy)):
        return "left of" if dx > 0 else "right of"
    if abs(dy) >= max(MIN_DISTANCE, MIN_RATIO * abs(dx)):
        return "above" if dy > 0 else "below"
    return None


def relation_codes(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
    """`relation` of every ordered pair of centres (B, M): index into RELATIONS or -1, (B, M, M)."""
    dx, dy = x[:, None, :] - x[:, :, None], y[:, None, :] - y[:, :, None]
    beside = np.abs(dx) >= np.maximum(MIN_DISTANCE, MIN_RATIO * np.abs(dy))
    stacked = np.abs(dy) >= np.maximum(MIN_DISTANCE, MIN_RATIO * np.abs(dx))
    vertical = np.where(stacked, np.where(dy > 0, 2, 3), -1)
    return np.where(beside, np.where(dx > 0, 0, 1), vertical)
