"""Parsing: the inverse of every caption, and None for whatever no template could have written."""

import pytest

from vlv_plugins.scenes.captions import caption, facts
from vlv_plugins.scenes.facts import ObjectFacts, RelationFacts, facts_of
from vlv_plugins.scenes.parsing import parse
from vlv_plugins.scenes.splits import scenes
from vlv_plugins.scenes.templates import REGISTERS
from vlv_plugins.scenes.vocabulary import BACKGROUND_COLOURS, BACKGROUND_KINDS
from vlv_plugins.scenes.world import WORLDS, Background, Object, Scene

SCENES = 12_500
"""Scenes for each of two worlds and four registers: 100,000 in all."""

GREY = Background("plain", ("grey",))
CIRCLE = ObjectFacts("circle", "red", "large", "solid", "top left")
STAR = ObjectFacts("star", "blue", "medium", "outline", "centre")


@pytest.mark.parametrize("register", REGISTERS)
@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_parsing_inverts_every_caption(world, register):
    first = REGISTERS.index(register) * SCENES
    for variant, scene in enumerate(scenes(world, "train-pixels", range(first, first + SCENES))):
        text = caption(scene, register, variant=variant)
        assert parse(text, register) == facts(scene, register, variant=variant), text


@pytest.mark.parametrize("split", ["held-out", "count", "mirrored"])
@pytest.mark.parametrize("register", REGISTERS)
def test_parsing_inverts_the_other_splits_too(split, register):
    for variant, scene in enumerate(scenes(WORLDS["M"], split, range(800))):
        text = caption(scene, register, variant=variant)
        assert parse(text, register) == facts(scene, register, variant=variant), text


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_a_caption_tells_its_own_register(world):
    """No caption of one register means something else in another."""
    for register in REGISTERS:
        for variant, scene in enumerate(scenes(world, "iid", range(800))):
            text = caption(scene, register, variant=variant)
            assert parse(text) == facts(scene, register, variant=variant), text


def test_every_background_can_be_read_back():
    item = Object("star", "red", "small", "solid", "centre", 32, 32, 0)
    for kind in BACKGROUND_KINDS:
        for first in BACKGROUND_COLOURS:
            for second in BACKGROUND_COLOURS:
                colours = (first,) if kind == "plain" else (first, second)
                scene = Scene(Background(kind, colours), (item,))
                for variant in range(3):
                    text = caption(scene, "dense", variant=variant)
                    assert parse(text, "dense") == facts(scene, "dense", variant=variant)


@pytest.mark.parametrize(
    ("text", "objects"),
    [
        ("a plain grey background with a large red circle in the top left.", [CIRCLE]),
        ("  A plain  grey background\nwith a large red CIRCLE in the top left. ", [CIRCLE]),
        (
            "plain grey background; centre: a medium outlined blue star; top left: a large red"
            " circle.",
            [STAR, CIRCLE],
        ),
        (
            "on a plain grey background: a large red circle in the top left and a large red circle"
            " in the top left.",
            [CIRCLE, CIRCLE],
        ),
    ],
)
def test_what_a_model_may_write(text, objects):
    """Case, spaces and order are free; two objects may stand in one cell."""
    assert parse(text, "dense") == facts_of(objects, background=GREY)


def test_a_relation_is_read_with_its_sides():
    text = (
        "a plain grey background with a large red circle in the top left and a medium outlined"
        " blue star in the centre; the blue star is below the red circle."
    )
    stated = RelationFacts(("blue", "star"), "below", ("red", "circle"))
    assert parse(text, "dense") == facts_of([CIRCLE, STAR], background=GREY, relations=(stated,))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a",
        "a plain grey background with .",
        "a plain grey background with a large red circle in the top left",
        "a plain grey background with a large red circle in the top left..",
        "a plain grey background with a large red circle in the top left and .",
        "a plain grey background with a large red circle in the top left and and a large red"
        " circle in the top.",
        "a plain grey background with a huge red circle in the top left.",
        "a plain grey background with a large crimson circle in the top left.",
        "a plain grey background with a large red oval in the top left.",
        "a plain grey background with a large red circle in the middle.",
        "a plain grey background with a large solid red circle in the top left.",
        "a plain red background with a large red circle in the top left.",
        "a plain grey and white background with a large red circle in the top left.",
        "a grey background with a large red circle in the top left.",
        "a white and checker background with a large red circle in the top left.",
        "a plain grey background with a large red circle in the top left; the red circle.",
        "a plain grey background with a large red circle in the top left; the red circle is near"
        " the blue star.",
        "two objects on a plain grey background: a large red circle in the top left.",
        "one object on a plain grey background: a large red circle in the top left and a small"
        " blue star in the top.",
        "a plain grey background with a large red circle in the top left. and a cat",
    ],
)
def test_anything_else_dense_is_unparsable(text):
    assert parse(text, "dense") is None


def test_more_objects_than_can_be_counted_are_parsed_if_no_count_is_stated():
    piece = "a large red circle in the top left"
    listed = f"on a plain grey background: {', '.join([piece] * 7)}."
    assert parse(listed, "dense") == facts_of([CIRCLE] * 7, background=GREY)
    assert parse(listed.replace("on a", "five objects on a"), "dense") is None


def test_an_article_may_be_the_wrong_one():
    """What is meant is clear; grammar is not what scene F1 measures."""
    assert parse("a picture of a orange star.", "short") == facts_of(
        [ObjectFacts("star", "orange")]
    )


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "null",
        "[]",
        "3",
        '"star"',
        "{}",
        '{"background": null, "objects": []}',
        '{"background": {"kind": "plain", "colours": []}, "objects": []}',
        '{"background": {"kind": "plain", "colours": ["grey", "white"]}, "objects": []}',
        '{"background": {"kind": "plain", "colours": ["red"]}, "objects": []}',
        '{"background": {"kind": "plain", "colours": [["grey"]]}, "objects": []}',
        '{"background": {"kind": ["plain"], "colours": ["grey"]}, "objects": []}',
        '{"background": {"kind": "tartan", "colours": ["grey", "white"]}, "objects": []}',
        '{"background": {"kind": "plain", "colours": ["grey"]}, "objects": 3}',
        '{"background": {"kind": "plain", "colours": ["grey"]}, "objects": [{"shape": "star"}]}',
        '{"background": {"kind": "plain", "colours": ["grey"]}, "objects": [["star"]]}',
        '{"background": {"kind": "plain", "colours": ["grey"]}, "objects": ["abcde"]}',
        '{"background": {"kind": "plain", "colours": ["grey"]},'
        ' "objects": [["oval", "red", "large", "solid", "top"]]}',
        '{"background": {"kind": "plain", "colours": ["grey"]},'
        ' "objects": [["star", "red", null, "solid", "top"]]}',
        '{"background": {"kind": "plain", "colours": ["grey"]},'
        ' "objects": [[["star"], "red", "large", "solid", "top"]]}',
    ],
)
def test_anything_else_in_json_is_unparsable(text):
    assert parse(text, "json") is None
    assert parse(text) is None


def test_json_without_objects_is_a_statement():
    text = '{"background": {"kind": "plain", "colours": ["grey"]}, "objects": []}'
    assert parse(text, "json") == facts_of([], background=GREY)


def test_deeply_nested_json_is_unparsable_rather_than_fatal():
    assert parse("[" * 100_000, "json") is None


def test_long_nonsense_is_refused_quickly():
    """No template makes the matcher try exponentially many ways."""
    text = "a plain grey background with " + "a large red circle in the top left and " * 2000
    assert parse(text) is None


def test_a_register_is_not_read_as_another():
    dense = "a plain grey background with a large red circle in the top left."
    assert parse(dense, "short") is None
    assert parse(dense, "tags") is None
    assert parse(dense, "json") is None
