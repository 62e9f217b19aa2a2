"""CIELAB against published values, and the worlds' palettes against the rules on contrast."""

from itertools import combinations

import numpy as np
import pytest

from vlv_plugins.scenes.colour import delta_e, lab
from vlv_plugins.scenes.contrast import (
    MIN_CHOICE,
    MIN_PAIR_DELTA_E,
    allowed_colours,
    backgrounds,
    shades,
)
from vlv_plugins.scenes.vocabulary import (
    BACKGROUND_COLOURS,
    BACKGROUND_KINDS,
    BACKGROUND_RGB,
    COLOUR_RGB,
    COLOURS,
)
from vlv_plugins.scenes.world import MIN_DELTA_E, WORLDS


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((128, 128, 128), (53.59, 0, 0)),
    ],
)
def test_lab_of_the_primaries_is_the_published_one(rgb, expected):
    assert lab([rgb])[0] == pytest.approx(expected, abs=0.02)


def test_delta_e_is_the_distance_of_each_pair():
    difference = delta_e([(255, 255, 255), (0, 0, 0)], [(0, 0, 0), (255, 255, 255), (255, 0, 0)])
    assert difference[:, :2] == pytest.approx(np.array([[100, 0], [0, 100]]), abs=1e-6)
    assert difference[0, 2] == pytest.approx(np.hypot(100 - 53.24, np.hypot(80.09, 67.20)), abs=0.1)


def test_every_two_object_colours_are_well_apart():
    rgb = list(COLOUR_RGB.values())
    assert min(delta_e(rgb, rgb)[a, b] for a, b in combinations(range(len(rgb)), 2)) > 35


def test_world_s_has_clearer_colours_still():
    rgb = [COLOUR_RGB[name] for name in WORLDS["S"].colours]
    assert min(delta_e(rgb, rgb)[a, b] for a, b in combinations(range(len(rgb)), 2)) > 60


def test_in_world_s_every_colour_goes_on_every_background():
    world = WORLDS["S"]
    plain = BACKGROUND_KINDS.index("plain")
    for name in world.background_colours:
        code = BACKGROUND_COLOURS.index(name)
        allowed = allowed_colours(world)[plain, code, code]
        assert [COLOURS[n] for n in np.flatnonzero(allowed)] == [
            name for name in COLOURS if name in world.colours
        ]


def test_a_gradient_shows_the_colours_between_its_ends():
    shown = shades("gradient", "white", "black")
    assert shown[0].tolist() == [255, 255, 255]
    assert shown[-1].tolist() == [0, 0, 0]
    assert shown[4].tolist() == [127.5, 127.5, 127.5]
    assert len(shades("checker", "white", "black")) == 2


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_backgrounds_keep_their_promises(world):
    for kind in world.backgrounds:
        pairs = backgrounds(world, kind)
        assert len(pairs), kind
        for first, second in pairs:
            allowed = allowed_colours(world)[BACKGROUND_KINDS.index(kind), first, second]
            assert allowed.sum() >= MIN_CHOICE
            names = BACKGROUND_COLOURS[first], BACKGROUND_COLOURS[second]
            assert set(names) <= set(world.background_colours)
            if kind == "plain":
                assert first == second
            else:
                ends = [BACKGROUND_RGB[name] for name in names]
                assert delta_e(ends[:1], ends[1:])[0, 0] >= MIN_PAIR_DELTA_E
            for colour in np.flatnonzero(allowed):
                rgb = [COLOUR_RGB[COLOURS[colour]]]
                assert delta_e(rgb, shades(kind, *names)).min() >= MIN_DELTA_E


def test_every_colour_of_a_world_is_used_on_every_kind_of_background():
    for world in WORLDS.values():
        for kind in world.backgrounds:
            table = allowed_colours(world)[BACKGROUND_KINDS.index(kind)]
            used = np.any(
                [table[first, second] for first, second in backgrounds(world, kind)], axis=0
            )
            assert {COLOURS[n] for n in np.flatnonzero(used)} == set(world.colours)
