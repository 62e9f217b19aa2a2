"""The splits: scene i of a split is a pure function of (world version, split, i).

| split | what it holds |
|---|---|
| train | what captions may teach: no held-out pair, nothing withheld |
| train-pixels | as train, and held-out pairs too; for stages that see pictures alone |
| iid | as train, never the same random words |
| held-out | at least one held-out attribute pair in each scene |
| count | the withheld number of objects, or twins: two objects of one shape and colour |
| relation | the withheld relation between two shapes, in worlds that have one |
| mirrored | scene i of iid, left and right exchanged |
| noise, jpeg | scene i of iid; `pictures` corrupts what is rendered |
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vlv_core.errors import UsageError, nearest
from vlv_plugins.scenes import vocabulary
from vlv_plugins.scenes.arrays import Ints, SceneArrays
from vlv_plugins.scenes.philox import below, key_of, words
from vlv_plugins.scenes.relations import RELATIONS, relation_codes
from vlv_plugins.scenes.sampler import counts, propose, valid
from vlv_plugins.scenes.world import Scene, World

Mask = NDArray[np.bool_]

IID_DERIVED = ("mirrored", "noise", "jpeg")
"""Splits that show the scenes of iid in another way."""

_VALUES = {
    "shape": vocabulary.SHAPES,
    "colour": vocabulary.COLOURS,
    "size": vocabulary.SIZES,
    "fill": vocabulary.FILLS,
}
_MAX_ATTEMPTS = 10_000


def splits(world: World) -> tuple[str, ...]:
    """Every split of a world."""
    own = ("train", "train-pixels", "iid", "held-out", "count")
    relation = () if world.withheld_relation is None else ("relation",)
    return own + relation + IID_DERIVED


def scene(world: World, split: str, index: int) -> Scene:
    """Scene `index` of a split."""
    return scenes(world, split, [index])[0]


def scenes(world: World, split: str, indices: Sequence[int]) -> list[Scene]:
    """The scenes at `indices`, in that order."""
    return scene_arrays(world, split, indices).scenes()


def scene_arrays(world: World, split: str, indices: Sequence[int] | Ints) -> SceneArrays:
    """The scenes at `indices` as arrays: about ten times the speed of `scenes`.

    Raises UsageError for an unknown split or a negative index.
    """
    if split not in splits(world):
        exists = ", ".join(splits(world))
        raise UsageError(
            f"no split named {split!r} in world {world.name}{nearest(split, splits(world))}; "
            f"splits: {exists}"
        )
    numbers = np.asarray(indices, dtype=np.int64).reshape(-1)
    if (numbers < 0).any():
        raise UsageError(f"scene {numbers.min()} does not exist; indices start at 0")
    drawn = _draw(world, "iid" if split in IID_DERIVED else split, numbers)
    return drawn.mirrored() if split == "mirrored" else drawn


def _draw(world: World, split: str, indices: Ints) -> SceneArrays:
    key = key_of(f"shapescape-64/{world.name}/{world.version}/{split}")
    count = _counts(world, split, indices, key=key)
    accepted: list[SceneArrays] = []
    rows: list[Ints] = []
    pending = np.arange(len(indices))
    for attempt in range(_MAX_ATTEMPTS):
        proposal = propose(world, indices[pending], count[pending], key=key, attempt=attempt)
        chosen = words(indices[pending], key=key, attempt=0xFFFFFFFE, number=1)[:, 0]
        proposal = _steer(world, split, proposal, chosen)
        good = valid(world, proposal) & _belongs(world, split, proposal)
        accepted.append(proposal.take(good))
        rows.append(pending[good])
        pending = pending[~good]
        if not len(pending):
            break
    assert not len(pending), f"world {world.name} has next to no scenes for {split}"
    return SceneArrays.joined(accepted).take(np.argsort(np.concatenate(rows)))


def _counts(world: World, split: str, indices: Ints, *, key: tuple[int, int]) -> Ints:
    if split == "count":
        return np.full(len(indices), world.withheld_count or 2)
    count = counts(world, indices, key=key)
    return np.maximum(count, 2) if split == "relation" else count


def _steer(
    world: World, split: str, arrays: SceneArrays, chosen: NDArray[np.uint64]
) -> SceneArrays:
    """Give proposals of the rare splits what they are about; the rules are still checked after."""
    if split == "held-out":
        pair = below(chosen, len(world.held_out))
        for number, attributes in enumerate(world.held_out):
            for attribute, value in attributes:
                getattr(arrays, attribute)[pair == number, 0] = _VALUES[attribute].index(value)
    elif split == "count" and world.withheld_count is None:
        arrays.shape[:, 1], arrays.colour[:, 1] = arrays.shape[:, 0], arrays.colour[:, 0]
    elif split == "relation" and world.withheld_relation is not None:
        first, _, second = world.withheld_relation
        arrays.shape[:, 0] = vocabulary.SHAPES.index(first)
        arrays.shape[:, 1] = vocabulary.SHAPES.index(second)
    return arrays


def _belongs(world: World, split: str, arrays: SceneArrays) -> Mask:
    """Withheld traits are absent, save for the one that a split is about, which is present."""
    belongs = np.ones(len(arrays), dtype=bool)
    traits = {
        "held-out": has_held_out(world, arrays),
        "count": has_withheld_count(world, arrays),
        "relation": has_withheld_relation(world, arrays),
    }
    for trait, holds in traits.items():
        if split == trait:
            belongs &= holds
        elif (split, trait) != ("train-pixels", "held-out"):
            belongs &= ~holds
    return belongs


def has_held_out(world: World, arrays: SceneArrays) -> Mask:
    """Which scenes hold an object with a held-out attribute pair, (B,)."""
    found: Mask = np.zeros(arrays.shape.shape, dtype=bool)
    for (first, value), (second, other) in world.held_out:
        one = getattr(arrays, first) == _VALUES[first].index(value)
        found |= one & (getattr(arrays, second) == _VALUES[second].index(other))
    return np.any(found & arrays.present, axis=1)


def has_withheld_count(world: World, arrays: SceneArrays) -> Mask:
    """Which scenes hold the withheld number of objects, or twins if those are withheld, (B,)."""
    if world.withheld_count is not None:
        return arrays.count == world.withheld_count
    look = np.where(arrays.present, arrays.shape * len(vocabulary.COLOURS) + arrays.colour, -1)
    pairs = look[:, :, None] == look[:, None, :]
    upper = np.triu(np.ones(pairs.shape[1:], dtype=bool), k=1)
    return np.any(pairs & upper & (look >= 0)[:, :, None], axis=(1, 2))


def has_withheld_relation(world: World, arrays: SceneArrays) -> Mask:
    """Which scenes show the withheld relation between any two of their objects, (B,)."""
    if world.withheld_relation is None:
        return np.zeros(len(arrays), dtype=bool)
    first, name, second = world.withheld_relation
    holds = relation_codes(arrays.x, arrays.y) == RELATIONS.index(name)
    present = arrays.present
    subject = (arrays.shape == vocabulary.SHAPES.index(first)) & present
    other = (arrays.shape == vocabulary.SHAPES.index(second)) & present
    return np.any(holds & subject[:, :, None] & other[:, None, :], axis=(1, 2))
