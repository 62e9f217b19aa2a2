"""Facts and relations: the geometry, the canonical order, and what mirrors do to both."""

import numpy as np
import pytest

from vlv_plugins.scenes.arrays import SceneArrays
from vlv_plugins.scenes.captions import facts
from vlv_plugins.scenes.facts import (
    ObjectFacts,
    RelationFacts,
    bound,
    canonical_background,
    facts_of,
    relations_of,
)
from vlv_plugins.scenes.relations import OPPOSITE, RELATIONS, relation, relation_codes
from vlv_plugins.scenes.splits import scene_arrays, scenes
from vlv_plugins.scenes.world import WORLDS, Background, Object, Scene

GREY = Background("plain", ("grey",))
MIRRORED = {"left of": "right of", "right of": "left of", "above": "above", "below": "below"}
MIRRORED_CELLS = {
    "top left": "top right",
    "top": "top",
    "top right": "top left",
    "left": "right",
    "centre": "centre",
    "right": "left",
    "bottom left": "bottom right",
    "bottom": "bottom",
    "bottom right": "bottom left",
}


def at(x: float, y: float, shape: str = "circle", colour: str = "red") -> Object:
    cells = ("top left", "top", "top right", "left", "centre", "right")
    cells += ("bottom left", "bottom", "bottom right")
    return Object(
        shape, colour, "small", "solid", cells[3 * int(y * 3 // 64) + int(x * 3 // 64)], x, y, 0
    )


@pytest.mark.parametrize(
    ("dx", "dy", "expected"),
    [
        (8, 0, "left of"),
        (-8, 0, "right of"),
        (0, 8, "above"),
        (0, -8, "below"),
        (7.9, 0, None),
        (0, -7.9, None),
        (12, 8, "left of"),
        (11.9, 8, None),
        (8, 12, "above"),
        (8, 11.9, None),
        (20, 20, None),
        (-30, 19, "right of"),
        (1, -20, "below"),
    ],
)
def test_relations_need_distance_and_direction(dx, dy, expected):
    assert relation(at(32, 32), at(32 + dx, 32 + dy)) == expected


def test_each_relation_has_its_opposite():
    for first, second in np.random.Generator(np.random.Philox(key=1)).uniform(5, 59, (500, 2, 2)):
        there, back = relation(at(*first), at(*second)), relation(at(*second), at(*first))
        assert back == (OPPOSITE[there] if there else None)


def test_relation_codes_agree_with_relation():
    arrays = scene_arrays(WORLDS["M"], "count", range(200))
    codes = relation_codes(arrays.x, arrays.y)
    for row, drawn in enumerate(arrays.scenes()):
        for a, first in enumerate(drawn.objects):
            for b, second in enumerate(drawn.objects):
                name = relation(first, second) if a != b else None
                assert codes[row, a, b] == (RELATIONS.index(name) if name else -1)


def test_relations_name_objects_by_looks_that_are_unique():
    left, right = at(12, 32), at(52, 32, "star", "blue")
    assert relations_of(Scene(GREY, (right, left))) == [
        RelationFacts(("red", "circle"), "left of", ("blue", "star")),
        RelationFacts(("blue", "star"), "right of", ("red", "circle")),
    ]
    twin = at(32, 12)
    assert relations_of(Scene(GREY, (right, left, twin))) == []


def test_equal_statements_are_equal_values():
    items = [
        ObjectFacts("star", "red", "small", "solid", "top"),
        ObjectFacts("circle", "red", "small", "solid", "top left"),
        ObjectFacts("circle", "red", "small", "dotted", "top left"),
    ]
    expected = facts_of(items)
    assert [item.cell for item in expected.objects] == ["top left", "top left", "top"]
    for order in ([1, 2, 0], [2, 1, 0], [0, 2, 1]):
        assert facts_of([items[n] for n in order]) == expected


def test_facts_count_repeated_objects():
    one = ObjectFacts("star", "red")
    assert facts_of([one]) != facts_of([one, one])


@pytest.mark.parametrize("kind", ["checker", "stripes"])
def test_colours_that_play_the_same_part_have_one_order(kind):
    there, back = Background(kind, ("navy", "white")), Background(kind, ("white", "navy"))
    assert canonical_background(there) == canonical_background(back) == back


@pytest.mark.parametrize("kind", ["gradient", "horizon", "dots"])
def test_colours_that_play_different_parts_keep_theirs(kind):
    background = Background(kind, ("navy", "white"))
    assert canonical_background(background) == background


def test_drawing_order_is_no_fact():
    (scene,) = scenes(WORLDS["M"], "count", [3])
    backwards = Scene(scene.background, scene.objects[::-1])
    assert facts(scene, "json", variant=0) == facts(backwards, "json", variant=0)


def test_angle_and_exact_place_are_no_facts():
    here, there = at(31.5, 32), Object("circle", "red", "small", "solid", "centre", 30, 33, 9)
    for register in ("short", "dense", "tags", "json"):
        first, second = Scene(GREY, (here,)), Scene(GREY, (there,))
        assert facts(first, register, variant=4) == facts(second, register, variant=4)


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_a_mirror_exchanges_left_and_right_in_the_facts(world):
    arrays = scene_arrays(world, "iid", range(1000))
    pairs = zip(arrays.scenes(), arrays.mirrored().scenes(), strict=True)
    for scene, mirrored in pairs:
        flipped = [bound(item)._replace(cell=MIRRORED_CELLS[item.cell]) for item in scene.objects]
        expected = facts_of(flipped, background=scene.background)
        assert facts(mirrored, "json", variant=0) == expected
        assert set(relations_of(mirrored)) == {
            item._replace(relation=MIRRORED[item.relation]) for item in relations_of(scene)
        }


def test_facts_of_arrays_survive_the_round_trip():
    drawn = scenes(WORLDS["M"], "train", range(50))
    for scene, again in zip(drawn, SceneArrays.of(drawn).scenes(), strict=True):
        assert facts(scene, "json", variant=0) == facts(again, "json", variant=0)
