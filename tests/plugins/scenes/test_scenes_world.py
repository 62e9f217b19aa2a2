"""Worlds, scenes as JSON, and scenes as arrays."""

import json

import numpy as np
import pytest

from vlv_plugins.scenes import vocabulary
from vlv_plugins.scenes.arrays import SceneArrays
from vlv_plugins.scenes.splits import scene_arrays, scenes
from vlv_plugins.scenes.world import WORLDS, Background, Object, Scene

S, M = WORLDS["S"], WORLDS["M"]


def test_world_m_is_the_whole_vocabulary():
    assert M.shapes == vocabulary.SHAPES
    assert M.colours == vocabulary.COLOURS
    assert tuple(M.sizes) == vocabulary.SIZES
    assert M.fills == vocabulary.FILLS
    assert M.backgrounds == vocabulary.BACKGROUND_KINDS
    assert (len(M.shapes), len(M.colours), len(M.backgrounds)) == (10, 10, 6)
    assert list(M.sizes.values()) == [5, 8, 12]


def test_world_s_is_a_small_part_of_it():
    assert (len(S.shapes), len(S.colours), len(S.sizes)) == (6, 6, 2)
    assert S.fills == ("solid",)
    assert S.backgrounds == ("plain",)
    assert set(S.shapes) < set(M.shapes)
    assert set(S.colours) < set(M.colours)
    assert set(S.background_colours) < set(M.background_colours)


def test_max_objects_counts_the_withheld_number_too():
    assert S.max_objects == 2
    assert M.max_objects == 5


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_held_out_pairs_are_of_the_world(world):
    values = {
        "shape": world.shapes,
        "colour": world.colours,
        "size": world.sizes,
        "fill": world.fills,
    }
    for pair in world.held_out:
        assert len({attribute for attribute, _ in pair}) == 2
        assert all(value in values[attribute] for attribute, value in pair)


def test_no_word_has_two_meanings():
    """Else a word of a caption would not tell its attribute."""
    words = [
        *vocabulary.SHAPES,
        *vocabulary.COLOURS,
        *vocabulary.SIZES,
        *vocabulary.FILLS,
        *vocabulary.BACKGROUND_COLOURS,
    ]
    assert len(words) == len(set(words))


def test_a_scene_as_json_is_the_documented_one():
    item = Object("star", "red", "small", "solid", "top left", 10.5, 11.0625, -7)
    scene = Scene(Background("horizon", ("white", "navy")), (item,))
    assert json.loads(scene.to_json()) == {
        "background": {"kind": "horizon", "colours": ["white", "navy"]},
        "objects": [
            {
                "shape": "star",
                "colour": "red",
                "size": "small",
                "fill": "solid",
                "cell": "top left",
                "x": 10.5,
                "y": 11.0625,
                "angle": -7,
            }
        ],
    }


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_json_gives_the_same_scene_back(world):
    for scene in scenes(world, "train", range(500)):
        text = scene.to_json()
        assert "\n" not in text
        assert Scene.from_json(text) == scene


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_arrays_give_the_same_scenes_back(world):
    drawn = scenes(world, "train", range(500))
    assert SceneArrays.of(drawn).scenes() == drawn


def test_arrays_of_no_scenes_and_of_no_objects():
    assert SceneArrays.of([]).scenes() == []
    bare = Scene(Background("plain", ("grey",)), ())
    assert SceneArrays.of([bare]).scenes() == [bare]


def test_present_marks_the_first_count_slots():
    arrays = scene_arrays(M, "train", range(100))
    assert (arrays.present.sum(axis=1) == arrays.count).all()
    assert (np.diff(arrays.present.astype(int), axis=1) <= 0).all()


def test_take_and_joined_are_inverse():
    arrays = scene_arrays(M, "train", range(20))
    odd = np.arange(20) % 2 == 1
    parts = SceneArrays.joined([arrays.take(odd), arrays.take(~odd)])
    back = np.argsort(np.r_[np.flatnonzero(odd), np.flatnonzero(~odd)])
    assert parts.take(back).scenes() == arrays.scenes()


def test_a_mirror_exchanges_left_and_right_alone():
    item = Object("star", "red", "small", "solid", "top left", 10.5, 11.0, -7)
    scene = Scene(Background("gradient", ("white", "navy")), (item,))
    (mirrored,) = SceneArrays.of([scene]).mirrored().scenes()
    assert mirrored.background == scene.background
    assert mirrored.objects == (
        Object("star", "red", "small", "solid", "top right", 53.5, 11.0, 7),
    )


def test_a_mirror_exchanges_the_colours_of_a_checker():
    scene = Scene(Background("checker", ("white", "navy")), ())
    (mirrored,) = SceneArrays.of([scene]).mirrored().scenes()
    assert mirrored.background == Background("checker", ("navy", "white"))


def test_mirrored_twice_is_the_scene_itself():
    arrays = scene_arrays(M, "train", range(200))
    assert arrays.mirrored().mirrored().scenes() == arrays.scenes()
