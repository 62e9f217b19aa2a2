"""Proposals: one draw of whole scenes from random words, and the rules that a draw must keep.

Shape legend: B scenes, M object slots.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from vlv_plugins.scenes.arrays import Ints, SceneArrays
from vlv_plugins.scenes.contrast import allowed_colours, backgrounds
from vlv_plugins.scenes.philox import below, words
from vlv_plugins.scenes.shapes import CAP_STEPS, TURNS, caps
from vlv_plugins.scenes.vocabulary import (
    BACKGROUND_KINDS,
    CANVAS,
    CELLS,
    FILLS,
    SHAPES,
    SIZE_RADII,
    SIZES,
)
from vlv_plugins.scenes.world import MARGIN, MIN_VISIBLE, World

STEPS = 16
"""Positions are whole multiples of 1 / STEPS pixels: exact in binary and short in JSON."""

_RADII = np.array([SIZE_RADII[name] for name in SIZES])
_TURNS = np.array([TURNS[name] for name in SHAPES])
_PER_OBJECT = 7
_SHARED = 2 + len(CELLS)


@cache
def _codes(names: tuple[str, ...], vocabulary: tuple[str, ...]) -> Ints:
    return np.array([vocabulary.index(name) for name in names], dtype=np.int64)


def counts(world: World, indices: Ints, *, key: tuple[int, int]) -> Ints:
    """How many objects each index asks for, (B,): drawn once, so that rejections do not bend it."""
    # Attempt 2**32 - 1 is never reached by `propose`, so these words serve nothing else.
    drawn = words(indices, key=key, attempt=0xFFFFFFFF, number=1)[:, 0]
    edges = np.cumsum(world.count_weights) / sum(world.count_weights) * 2**32
    return np.searchsorted(edges, drawn, side="right").astype(np.int64) + 1


def propose(
    world: World, indices: Ints, count: Ints, *, key: tuple[int, int], attempt: int
) -> SceneArrays:
    """One draw for each index: colours that stand out, cells all different."""
    slots = world.max_objects
    drawn = words(indices, key=key, attempt=attempt, number=_SHARED + _PER_OBJECT * slots)
    kind, colours = _backgrounds(world, drawn[:, :2])
    cell = np.argsort(drawn[:, 2:_SHARED], axis=1, kind="stable")[:, :slots]
    per_object = drawn[:, _SHARED:].reshape(len(indices), _PER_OBJECT, slots)
    shape = _pick(_codes(world.shapes, SHAPES), per_object[:, 0])
    size = _pick(_codes(tuple(world.sizes), SIZES), per_object[:, 2])
    fill = _pick(_codes(world.fills, FILLS), per_object[:, 3])
    turn = _TURNS[shape]
    return SceneArrays(
        kind=kind,
        colours=colours,
        count=count,
        shape=shape,
        colour=_visible_colours(world, kind, colours, per_object[:, 1]),
        size=size,
        fill=np.where(_solid_only(world, size), FILLS.index("solid"), fill),
        cell=cell,
        x=_coordinate(cell % 3, _RADII[size], per_object[:, 4]),
        y=_coordinate(cell // 3, _RADII[size], per_object[:, 5]),
        angle=below(per_object[:, 6], 2 * turn + 1) - turn,
    )


def _pick(choices: Ints, drawn: NDArray[np.uint64]) -> Ints:
    return choices[below(drawn, len(choices))]


def _solid_only(world: World, size: Ints) -> NDArray[np.bool_]:
    return np.isin(size, _codes(world.solid_sizes, SIZES))


def _backgrounds(world: World, drawn: NDArray[np.uint64]) -> tuple[Ints, Ints]:
    which = below(drawn[:, 0], len(world.backgrounds))
    kind = _codes(world.backgrounds, BACKGROUND_KINDS)[which]
    tables = [backgrounds(world, name) for name in world.backgrounds]
    sizes = np.array([len(table) for table in tables])
    starts = np.cumsum(sizes) - sizes
    row = starts[which] + below(drawn[:, 1], sizes[which])
    return kind, np.concatenate(tables)[row]


def _visible_colours(world: World, kind: Ints, colours: Ints, drawn: NDArray[np.uint64]) -> Ints:
    allowed = allowed_colours(world)[kind, colours[:, 0], colours[:, 1]]
    rank = below(drawn, allowed.sum(axis=1)[:, None])
    # Sorting "not allowed" stably moves the allowed colours to the front, in order.
    order = np.argsort(~allowed, axis=1, kind="stable")
    return np.take_along_axis(order, rank, axis=1)


def _coordinate(
    third: Ints, radius: NDArray[np.float64], drawn: NDArray[np.uint64]
) -> NDArray[np.float64]:
    """Centres in pixels, as `third`: within the cell's margins, the whole disc on the canvas."""
    edge = CANVAS / 3
    low = np.maximum(third * edge + MARGIN, radius)
    high = np.minimum((third + 1) * edge - MARGIN, CANVAS - radius)
    first, last = np.ceil(low * STEPS).astype(np.int64), np.floor(high * STEPS).astype(np.int64)
    return (first + below(drawn, last - first + 1)) / STEPS


def valid(world: World, arrays: SceneArrays) -> NDArray[np.bool_]:
    """Which scenes keep the rules on colour, fill, overlap and visibility, (B,)."""
    present = arrays.present
    allowed = allowed_colours(world)[arrays.kind, arrays.colours[:, 0], arrays.colours[:, 1]]
    distinct = np.take_along_axis(allowed, arrays.colour, axis=1)
    legible = ~_solid_only(world, arrays.size) | (arrays.fill == FILLS.index("solid"))
    return ((distinct & legible) | ~present).all(axis=1) & _placed(world, arrays, present)


def _placed(world: World, arrays: SceneArrays, present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    radius = _RADII[arrays.size]
    distance = np.hypot(
        arrays.x[:, :, None] - arrays.x[:, None, :], arrays.y[:, :, None] - arrays.y[:, None, :]
    )
    both = present[:, :, None] & present[:, None, :] & ~np.eye(present.shape[1], dtype=bool)
    # One pixel more than the radii, so that antialiased borders do not touch either.
    depth = np.where(both, radius[:, :, None] + radius[:, None, :] + 1 - distance, 0).clip(min=0)
    if not world.overlaps:
        return (depth == 0).all(axis=(1, 2))
    same = arrays.colour[:, :, None] == arrays.colour[:, None, :]
    merged = (same & (depth > 0)).any(axis=(1, 2))
    return ~merged & (_covered(arrays.shape, depth / radius[:, :, None]) <= 1 - MIN_VISIBLE).all(
        axis=1
    )


def _covered(shape: Ints, depth: NDArray[np.float64]) -> NDArray[np.float64]:
    """An upper bound of each object's share covered by later ones, (B, M).

    `depth` (B, M, M) is how far the second's disc reaches into the first's, in radii of the first.
    """
    later = np.triu(np.ones(depth.shape[1:], dtype=bool), k=1)
    step = np.ceil(depth.clip(max=2) / 2 * CAP_STEPS).astype(np.int64)
    return np.where(later, caps()[shape[:, :, None], step], 0).sum(axis=2)
