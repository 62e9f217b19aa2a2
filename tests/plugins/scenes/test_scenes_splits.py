"""Splits: the same scene for ever, and nothing withheld where it must not be."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from vlv_core.errors import UsageError
from vlv_plugins.scenes.relations import relation
from vlv_plugins.scenes.splits import (
    IID_DERIVED,
    has_held_out,
    has_withheld_count,
    has_withheld_relation,
    scene,
    scene_arrays,
    scenes,
    splits,
)
from vlv_plugins.scenes.world import WORLDS, Scene, World

S, M = WORLDS["S"], WORLDS["M"]

# The first 100 scenes as JSON lines, hashed. A change here is a change of the world: raise its
# version, and everything trained on the old one must be trained again.
GOLDEN = {
    "S/train": "6637134c88bbd804",
    "S/train-pixels": "52d422de583fa7ce",
    "S/iid": "b03742d87b673c87",
    "S/held-out": "60e7dede374692b4",
    "S/count": "88fbd8043d906e60",
    "S/mirrored": "56f01c2783be67b3",
    "M/train": "2c202466ce851ab4",
    "M/train-pixels": "bb1816ae2d39731a",
    "M/iid": "560c5e2b2fb65fcd",
    "M/held-out": "c1b8618262a36648",
    "M/count": "d13ff46450d1051e",
    "M/relation": "d391849ea4ba19c2",
    "M/mirrored": "e92bfe805c189bbf",
}


def held_out(world: World, drawn: Scene) -> bool:
    return any(
        all(getattr(item, attribute) == value for attribute, value in pair)
        for item in drawn.objects
        for pair in world.held_out
    )


def withheld_relation(world: World, drawn: Scene) -> bool:
    if world.withheld_relation is None:
        return False
    first, name, second = world.withheld_relation
    return any(
        a.shape == first and b.shape == second and relation(a, b) == name
        for a in drawn.objects
        for b in drawn.objects
    )


def withheld_count(world: World, drawn: Scene) -> bool:
    if world.withheld_count is not None:
        return len(drawn.objects) == world.withheld_count
    looks = Counter((item.shape, item.colour) for item in drawn.objects)
    return max(looks.values()) > 1


@pytest.mark.parametrize("key", GOLDEN)
def test_scenes_are_the_same_for_ever(key):
    name, split = key.split("/")
    lines = "\n".join(item.to_json() for item in scenes(WORLDS[name], split, range(100)))
    assert hashlib.sha256(lines.encode()).hexdigest()[:16] == GOLDEN[key]


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_a_scene_depends_on_its_index_alone(world):
    for split in splits(world):
        together = scenes(world, split, [5, 2**33, 0, 999, 5])
        assert together == [scene(world, split, index) for index in (5, 2**33, 0, 999, 5)]


def test_splits_and_worlds_differ():
    first = {split: scene(M, split, 0) for split in splits(M) if split not in IID_DERIVED}
    assert len(set(first.values())) == len(first)
    assert scene(S, "train", 0) != scene(M, "train", 0)


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_scenes_of_a_split_are_different_ones(world):
    assert len(set(scenes(world, "train", range(3000)))) == 3000


@pytest.mark.parametrize("split", ["train", "iid"])
@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_training_never_sees_what_is_withheld(world, split):
    arrays = scene_arrays(world, split, range(20_000))
    assert not has_held_out(world, arrays).any()
    assert not has_withheld_count(world, arrays).any()
    assert not has_withheld_relation(world, arrays).any()


@pytest.mark.parametrize("split", ["train", "train-pixels", "held-out", "count"])
@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_the_masks_agree_with_plain_loops(world, split):
    arrays = scene_arrays(world, split, range(1500))
    for mask, plain in (
        (has_held_out, held_out),
        (has_withheld_count, withheld_count),
        (has_withheld_relation, withheld_relation),
    ):
        assert mask(world, arrays).tolist() == [plain(world, item) for item in arrays.scenes()]


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_pictures_for_stage_one_hold_every_held_out_pair(world):
    objects = [
        item for drawn in scenes(world, "train-pixels", range(4000)) for item in drawn.objects
    ]
    for (first, value), (second, other) in world.held_out:
        found = [x for x in objects if getattr(x, first) == value and getattr(x, second) == other]
        assert len(found) > 10


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_pictures_for_stage_one_withhold_counts_and_relations(world):
    arrays = scene_arrays(world, "train-pixels", range(5000))
    assert not has_withheld_count(world, arrays).any()
    assert not has_withheld_relation(world, arrays).any()


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_every_held_out_scene_holds_a_pair_and_each_pair_is_common(world):
    drawn = scenes(world, "held-out", range(1000))
    assert all(held_out(world, item) for item in drawn)
    for pair in world.held_out:
        with_pair = [
            any(all(getattr(x, a) == v for a, v in pair) for x in item.objects) for item in drawn
        ]
        assert np.mean(with_pair) > 0.5 / len(world.held_out)


def test_the_count_split_of_s_has_twins():
    for drawn in scenes(S, "count", range(500)):
        first, second = drawn.objects
        assert (first.shape, first.colour) == (second.shape, second.colour)


def test_the_count_split_of_m_has_five_objects():
    assert {len(drawn.objects) for drawn in scenes(M, "count", range(500))} == {5}


def test_the_relation_split_has_the_withheld_relation():
    assert all(withheld_relation(M, drawn) for drawn in scenes(M, "relation", range(500)))


@pytest.mark.parametrize("split", ["count", "relation"])
def test_one_thing_is_withheld_at_a_time(split):
    arrays = scene_arrays(M, split, range(1000))
    assert not has_held_out(M, arrays).any()
    assert has_withheld_count(M, arrays).all() == (split == "count")


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_derived_splits_are_of_iid_scenes(world):
    plain = scene_arrays(world, "iid", range(50))
    assert scenes(world, "noise", range(50)) == plain.scenes()
    assert scenes(world, "jpeg", range(50)) == plain.scenes()
    assert scenes(world, "mirrored", range(50)) == plain.mirrored().scenes()


def test_no_indices_give_no_scenes():
    assert scenes(S, "train", []) == []


def test_an_unknown_split_is_refused_with_what_exists():
    with pytest.raises(
        UsageError, match="no split named 'heldout' in world S; did you mean 'held-"
    ):
        scene(S, "heldout", 0)
    with pytest.raises(UsageError, match="splits: train, train-pixels, iid, held-out, count, mirr"):
        scene(S, "relation", 0)


def test_a_negative_index_is_refused():
    with pytest.raises(UsageError, match="scene -1 does not exist; indices start at 0"):
        scenes(S, "train", [3, -1])
