"""Scores by hand-made examples, then by a brute-force assignment."""

from itertools import permutations

import numpy as np
import pytest

from vlv_plugins.scenes.captions import caption, facts
from vlv_plugins.scenes.facts import ObjectFacts, RelationFacts, bound, facts_of
from vlv_plugins.scenes.scoring import compare, score, score_objects
from vlv_plugins.scenes.splits import scenes
from vlv_plugins.scenes.templates import OBJECT_KEYS, REGISTERS
from vlv_plugins.scenes.vocabulary import CELLS, COLOURS, FILLS, SHAPES, SIZES
from vlv_plugins.scenes.world import WORLDS, Background, Object, Scene

CIRCLE = Object("circle", "red", "large", "solid", "top left", 14.0, 14.0, 0)
STAR = Object("star", "blue", "medium", "solid", "right", 50.0, 32.0, 20)
GREY = Background("plain", ("grey",))
SCENE = Scene(GREY, (CIRCLE, STAR))
EVERYTHING_RIGHT = dict.fromkeys(OBJECT_KEYS, 2)


def dense(*phrases: str, background: str = "plain grey") -> str:
    return f"a {background} background with {' and '.join(phrases)}."


A_CIRCLE = "a large red circle in the top left"
A_STAR = "a medium blue star in the right"


@pytest.mark.parametrize("register", REGISTERS)
@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_the_scene_s_own_caption_is_perfect(world, register):
    for variant, scene in enumerate(scenes(world, "iid", range(300))):
        found = score(caption(scene, register, variant=variant), scene, register)
        assert found.parsed
        assert found.exact
        assert found.objects.matched == found.objects.true == len(scene.objects)
        assert found.objects.invented == 0
        assert set(found.objects.right.values()) == {len(scene.objects)}


def test_a_right_caption():
    found = score(dense(A_STAR, A_CIRCLE), SCENE, "dense")
    assert (found.parsed, found.background, found.exact) == (True, True, True)
    assert (found.objects.predicted, found.objects.true, found.objects.matched) == (2, 2, 2)
    assert found.objects.right == EVERYTHING_RIGHT


def test_one_wrong_attribute_makes_the_whole_object_wrong():
    found = score(dense(A_CIRCLE, "a medium pink star in the right"), SCENE, "dense")
    assert found.objects.matched == 1
    assert found.objects.invented == 1
    assert found.objects.right == {**EVERYTHING_RIGHT, "colour": 1}
    assert not found.exact


def test_exchanged_colours_match_nothing():
    """Each attribute occurs in the scene, but bound to the wrong object."""
    swapped = dense("a large blue circle in the top left", "a medium red star in the right")
    found = score(swapped, SCENE, "dense")
    assert found.objects.matched == 0
    assert found.objects.right == {**EVERYTHING_RIGHT, "colour": 0}


def test_a_missing_object():
    found = score(dense(A_CIRCLE), SCENE, "dense")
    assert (found.objects.predicted, found.objects.true, found.objects.matched) == (1, 2, 1)
    assert found.objects.right == dict.fromkeys(OBJECT_KEYS, 1)


def test_a_repeated_object_counts_once_but_is_no_invention():
    found = score(dense(A_CIRCLE, A_CIRCLE), SCENE, "dense")
    assert (found.objects.predicted, found.objects.matched, found.objects.invented) == (2, 1, 0)


def test_the_background_is_apart_from_the_objects():
    found = score(dense(A_CIRCLE, A_STAR, background="plain white"), SCENE, "dense")
    assert found.background is False
    assert found.objects.matched == 2
    assert not found.exact


@pytest.mark.parametrize("answer", ["", "a cat on a mat", None])
def test_unparsable_answers_find_nothing(answer):
    found = score(answer, SCENE, "dense")
    assert found.parsed is False
    assert (found.objects.predicted, found.objects.true, found.objects.matched) == (0, 2, 0)
    assert found.background is False
    assert found.objects.right == dict.fromkeys(OBJECT_KEYS, 0)
    assert not found.exact


def test_relations_are_judged_by_the_scene():
    right = RelationFacts(("red", "circle"), "left of", ("blue", "star"))
    wrong = RelationFacts(("red", "circle"), "above", ("blue", "star"))
    stated = facts(SCENE, "json", variant=0)
    for relations, expected in (((), (0, 0)), ((right,), (1, 1)), ((wrong, right), (2, 1))):
        answer = facts_of(stated.objects, background=GREY, relations=relations)
        found = score(answer, SCENE, "dense")
        assert (found.relations, found.relations_right) == expected
        assert found.exact == (wrong not in relations)


def test_short_answers_are_judged_by_what_they_state():
    found = score("a red circle and a blue star.", SCENE, "short")
    assert found.exact
    assert found.background is None
    assert found.objects.right == {"shape": 2, "colour": 2}


def test_tags_are_judged_without_cells():
    text = "plain grey background, large red circle, medium blue star"
    found = score(text, SCENE, "tags")
    assert found.exact
    assert set(found.objects.right) == {"shape", "colour", "size", "fill"}


def test_a_scene_read_from_pixels_is_judged_in_any_register():
    moved = Object("star", "blue", "medium", "solid", "centre", 32.0, 32.0, 0)
    read = Scene(GREY, (moved, CIRCLE))
    assert score(read, SCENE, "json").objects.matched == 1
    assert score(read, SCENE, "short").exact
    assert score(SCENE, SCENE, "dense").exact
    assert score(read, SCENE, "dense").relations == 0


def test_an_oracle_may_find_nothing():
    found = score(Scene(GREY, ()), SCENE, "dense")
    assert found.parsed
    assert found.background
    assert (found.objects.predicted, found.objects.matched) == (0, 0)


def test_object_lists_are_judged_in_full():
    found = score_objects([STAR], [CIRCLE, STAR])
    assert (found.objects.predicted, found.objects.true, found.objects.matched) == (1, 2, 1)
    assert found.background is None
    assert score_objects([], []).exact


def test_place_and_angle_do_not_count():
    nudged = Object("star", "blue", "medium", "solid", "right", 49.0, 30.0, 0)
    assert score_objects([CIRCLE, nudged], [CIRCLE, STAR]).exact


def brute_right(answer: list[ObjectFacts], truth: list[ObjectFacts]) -> int:
    """The most right values that any one-to-one assignment gives."""
    wide = answer + [ObjectFacts("", "")] * len(truth)
    return max(
        sum(
            a == b
            for one, other in zip(order, truth, strict=True)
            for a, b in zip(one, other, strict=True)
        )
        for order in permutations(wide, len(truth))
    )


def test_attributes_are_right_under_the_best_assignment():
    generator = np.random.Generator(np.random.Philox(key=7))

    def objects(number: int) -> list[ObjectFacts]:
        vocabularies = (SHAPES[:3], COLOURS[:3], SIZES, FILLS[:2], CELLS[:3])
        return [
            ObjectFacts(*(str(generator.choice(values)) for values in vocabularies))
            for _ in range(number)
        ]

    for _ in range(120):
        answer = objects(int(generator.integers(0, 4)))
        truth = objects(int(generator.integers(1, 4)))
        assert sum(compare(answer, truth).right.values()) == brute_right(answer, truth)


def test_a_hundred_objects_are_compared_quickly():
    truth = [bound(item) for item in scenes(WORLDS["M"], "count", [0])[0].objects]
    found = compare(truth * 20, truth)
    assert (found.predicted, found.matched, found.invented) == (100, 5, 0)
    assert found.right == dict.fromkeys(OBJECT_KEYS, 5)
