"""Captions: the wording, the choice of templates, the length, what each register leaves out."""

import json
from collections import Counter

import pytest

from vlv_core.errors import UsageError
from vlv_plugins.scenes.captions import caption, facts, write
from vlv_plugins.scenes.facts import RelationFacts, facts_of, relations_of
from vlv_plugins.scenes.splits import scenes
from vlv_plugins.scenes.templates import JSON_LAYOUTS, REGISTERS, TEMPLATES
from vlv_plugins.scenes.world import WORLDS, Background, Object, Scene

CIRCLE = Object("circle", "red", "large", "solid", "top left", 14.0, 14.0, 0)
STAR = Object("star", "orange", "medium", "outline", "right", 50.0, 32.0, 20)
SCENE = Scene(Background("plain", ("grey",)), (STAR, CIRCLE))

WORDINGS = {
    "dense": {
        "a plain grey background with a large red circle in the top left and a medium outlined"
        " orange star in the right.",
        "a large red circle in the top left and a medium outlined orange star in the right on a"
        " plain grey background.",
        "on a plain grey background: a large red circle in the top left and a medium outlined"
        " orange star in the right.",
        "two objects on a plain grey background: a large red circle in the top left and a medium"
        " outlined orange star in the right.",
        "plain grey background; top left: a large red circle; right: a medium outlined orange"
        " star.",
        "top left: a large red circle; right: a medium outlined orange star; plain grey"
        " background.",
        "a plain grey background with a large red circle in the top left and a medium outlined"
        " orange star in the right; the red circle is left of the orange star.",
        "a plain grey background with a large red circle in the top left and a medium outlined"
        " orange star in the right; the orange star is right of the red circle.",
        "a large red circle in the top left and a medium outlined orange star in the right on a"
        " plain grey background; the red circle is left of the orange star.",
        "a large red circle in the top left and a medium outlined orange star in the right on a"
        " plain grey background; the orange star is right of the red circle.",
    },
    "short": {
        "a red circle and an orange star.",
        "a picture of a red circle and an orange star.",
        "there is a red circle and an orange star.",
        "two objects: a red circle and an orange star.",
        "red circle, orange star",
        "just a red circle and an orange star.",
    },
    "tags": {
        "large red circle, medium outlined orange star, plain grey background",
        "plain grey background, large red circle, medium outlined orange star",
        "two objects, large red circle, medium outlined orange star, plain grey background",
        "large red circle | medium outlined orange star | plain grey background",
        "plain grey background; two objects; large red circle; medium outlined orange star",
    },
    "json": {
        '{"background": {"kind": "plain", "colours": ["grey"]}, "objects": [{"shape": "circle",'
        ' "colour": "red", "size": "large", "fill": "solid", "cell": "top left"}, {"shape": "star",'
        ' "colour": "orange", "size": "medium", "fill": "outline", "cell": "right"}]}',
        '{"background":{"kind":"plain","colours":["grey"]},"objects":[{"shape":"circle",'
        '"colour":"red","size":"large","fill":"solid","cell":"top left"},{"shape":"star",'
        '"colour":"orange","size":"medium","fill":"outline","cell":"right"}]}',
        '{"objects": [{"shape": "circle", "colour": "red", "size": "large", "fill": "solid",'
        ' "cell": "top left"}, {"shape": "star", "colour": "orange", "size": "medium", "fill":'
        ' "outline", "cell": "right"}], "background": {"kind": "plain", "colours": ["grey"]}}',
        '{"background": {"kind": "plain", "colours": ["grey"]}, "objects": [["circle", "red",'
        ' "large", "solid", "top left"], ["star", "orange", "medium", "outline", "right"]]}',
    },
}


@pytest.mark.parametrize("register", REGISTERS)
def test_a_scene_has_these_captions_and_no_others(register):
    found = {caption(SCENE, register, variant=variant) for variant in range(600)}
    assert found == WORDINGS[register]


@pytest.mark.parametrize("register", REGISTERS)
def test_templates_are_chosen_evenly(register):
    captions = Counter(caption(SCENE, register, variant=variant) for variant in range(2000))
    templates = len(TEMPLATES[register]) or len(JSON_LAYOUTS)
    # A template with a relation has two readings, of half the frequency each.
    assert min(captions.values()) > 2000 / templates / 2 * 0.7


def test_there_are_at_least_twenty_templates():
    assert sum(map(len, TEMPLATES.values())) + len(JSON_LAYOUTS) >= 20


@pytest.mark.parametrize("register", REGISTERS)
def test_the_variant_alone_decides(register):
    first = [caption(SCENE, register, variant=variant) for variant in range(50)]
    assert first == [caption(SCENE, register, variant=variant) for variant in range(50)]
    assert caption(SCENE, register, variant=2**64 - 1)


@pytest.mark.parametrize("variant", [-1, 2**64])
def test_a_variant_out_of_range_is_refused(variant):
    with pytest.raises(UsageError, match=rf"number {variant} is outside 0 \.\. 2\*\*64 - 1"):
        caption(SCENE, "dense", variant=variant)


def test_a_single_object_has_no_relation_and_no_list():
    lone = Scene(SCENE.background, (CIRCLE,))
    captions = {caption(lone, "dense", variant=variant) for variant in range(200)}
    assert captions == {
        "a plain grey background with a large red circle in the top left.",
        "a large red circle in the top left on a plain grey background.",
        "on a plain grey background: a large red circle in the top left.",
        "one object on a plain grey background: a large red circle in the top left.",
        "plain grey background; top left: a large red circle.",
        "top left: a large red circle; plain grey background.",
    }


def test_more_than_two_objects_are_listed_with_commas():
    third = Object("cross", "blue", "small", "solid", "bottom", 32.0, 52.0, 0)
    stated = facts(Scene(SCENE.background, (third, STAR, CIRCLE)), "dense", variant=0)
    assert write(stated, TEMPLATES["dense"][0]) == (
        "a plain grey background with a large red circle in the top left, a medium outlined orange"
        " star in the right and a small blue cross in the bottom."
    )


@pytest.mark.parametrize(
    ("background", "words"),
    [
        (Background("plain", ("navy",)), "plain navy background"),
        (Background("gradient", ("white", "navy")), "white to navy gradient background"),
        (Background("checker", ("navy", "white")), "white and navy checker background"),
        (Background("stripes", ("navy", "white")), "white and navy striped background"),
        (Background("horizon", ("navy", "white")), "navy over white horizon background"),
        (Background("dots", ("navy", "white")), "white on navy dotted background"),
    ],
)
def test_each_kind_of_background_has_its_words(background, words):
    texts = {caption(Scene(background, (CIRCLE,)), "dense", variant=v) for v in range(40)}
    assert all(words in text for text in texts)


def test_registers_state_what_they_say():
    dense, short, tags, full = (facts(SCENE, register, variant=0) for register in ORDERED)
    assert full == facts_of(dense.objects, background=SCENE.background)
    assert full.objects[0] == ("circle", "red", "large", "solid", "top left")
    assert short.background is None
    assert set(short.objects) == {
        ("circle", "red", None, None, None),
        ("star", "orange", None, None, None),
    }
    assert tags.background == SCENE.background
    assert set(tags.objects) == {
        ("circle", "red", "large", "solid", None),
        ("star", "orange", "medium", "outline", None),
    }


ORDERED = ("dense", "short", "tags", "json")


def test_only_dense_captions_state_relations():
    for register in ("short", "tags", "json"):
        assert not any(facts(SCENE, register, variant=v).relations for v in range(100))
    stated = [facts(SCENE, "dense", variant=variant).relations for variant in range(300)]
    assert {len(item) for item in stated} == {0, 1}
    assert {item for relations in stated for item in relations} == {
        RelationFacts(("red", "circle"), "left of", ("orange", "star")),
        RelationFacts(("orange", "star"), "right of", ("red", "circle")),
    }


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_stated_relations_hold_and_are_stated_among_few_objects(world):
    stated = 0
    for variant, scene in enumerate(scenes(world, "train-pixels", range(3000))):
        relations = facts(scene, "dense", variant=variant).relations
        stated += len(relations)
        assert set(relations) <= set(relations_of(scene))
        assert not relations or len(scene.objects) <= 3
    assert stated > 150


@pytest.mark.parametrize(("name", "limit"), [("S", 45), ("M", 72)])
def test_dense_captions_are_short_enough(name, limit):
    """Words and punctuation marks: the bundled head learns at most 72 tokens."""
    longest = 0
    for split in ("train-pixels", "count"):
        for variant, scene in enumerate(scenes(WORLDS[name], split, range(4000))):
            text = caption(scene, "dense", variant=variant)
            longest = max(longest, len(text.split()) + sum(map(text.count, ",;:.")))
    assert longest <= limit


def test_dense_captions_of_s_use_few_words():
    captions = [
        caption(scene, "dense", variant=variant)
        for variant, scene in enumerate(scenes(WORLDS["S"], "train", range(3000)))
    ]
    words = {word.strip(".,:;") for text in captions for word in text.split()}
    assert len(words) <= 45


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_json_captions_are_json(world):
    for variant, scene in enumerate(scenes(world, "train", range(200))):
        data = json.loads(caption(scene, "json", variant=variant))
        assert data["background"]["kind"] == scene.background.kind
        assert len(data["objects"]) == len(scene.objects)


@pytest.mark.parametrize("number", [0, 6])
def test_words_for_no_or_too_many_objects_are_refused(number):
    crowd = Scene(SCENE.background, (STAR,) * number)
    with pytest.raises(UsageError, match=f"states 1 to 5 objects, not {number}; the json register"):
        caption(crowd, "dense", variant=0)
    assert len(json.loads(caption(crowd, "json", variant=0))["objects"]) == number


@pytest.mark.parametrize("make", [caption, facts])
def test_an_unknown_register_is_refused_with_what_exists(make):
    with pytest.raises(UsageError, match="no register named 'tag'; did you mean 'tags'"):
        make(SCENE, "tag", variant=0)
    with pytest.raises(UsageError, match="registers: short, dense, tags, json"):
        make(SCENE, "poem", variant=0)
