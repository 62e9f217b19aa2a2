"""Pictures against brute force, and against each other: alone, in a batch, in a mirror."""

from dataclasses import replace

import numpy as np
import pytest

from tests.plugins.scenes.reference import draw
from vlv_core.errors import UsageError
from vlv_plugins.scenes.arrays import SceneArrays
from vlv_plugins.scenes.backgrounds import HORIZON, TILE
from vlv_plugins.scenes.render import render
from vlv_plugins.scenes.splits import scene_arrays, scenes
from vlv_plugins.scenes.vocabulary import (
    BACKGROUND_RGB,
    CELLS,
    COLOUR_RGB,
    FILLS,
    SHAPES,
    SIZES,
)
from vlv_plugins.scenes.world import WORLDS, Background, Object, Scene

WHITE = Background("plain", ("white",))


def lone(**changes: object) -> Scene:
    """One large red circle in the middle of white, with changes."""
    item = Object("circle", "red", "large", "solid", "centre", 32.0, 32.0, 0)
    return Scene(WHITE, (replace(item, **changes),))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_solid_shapes_agree_with_brute_force(shape, size):
    turn = {"circle": 0, "ring": 0}.get(shape, 11)
    scene = lone(shape=shape, size=size, x=31.3125, y=33.6875, angle=turn, colour="blue")
    difference = np.abs(render([scene])[0] - draw(scene))
    # Distances round corners off; elsewhere a pixel's coverage is right within a few per cent.
    assert difference.max() < 90
    assert (difference.max(axis=-1) > 25).mean() < 0.006
    assert difference.mean() < 0.7


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fill", FILLS[1:])
def test_fills_agree_with_brute_force(shape, fill):
    scene = lone(shape=shape, fill=fill, x=32.5, y=30.25, angle=0)
    difference = np.abs(render([scene])[0] - draw(scene))
    assert (difference.max(axis=-1) > 40).mean() < 0.012
    assert difference.mean() < 1.5


def test_whole_scenes_agree_with_brute_force():
    for scene in scenes(WORLDS["S"], "train", range(6)):
        difference = np.abs(render([scene])[0] - draw(scene))
        assert (difference.max(axis=-1) > 40).mean() < 0.004
        assert difference.mean() < 0.5


def test_the_area_of_a_disc_is_right():
    picture = render([lone()])[0].astype(float)
    share = (255 - picture[..., 1]) / (255 - COLOUR_RGB["red"][1])
    assert share.sum() == pytest.approx(np.pi * 12**2, rel=0.01)


def test_colours_are_the_palette_s():
    picture = render([lone()])[0]
    assert tuple(picture[32, 32]) == COLOUR_RGB["red"]
    assert tuple(picture[0, 0]) == BACKGROUND_RGB["white"]


def test_a_positive_angle_turns_clockwise():
    arrow = render([lone(shape="arrow", angle=90)])[0, ..., 1] < 128
    columns = np.flatnonzero(arrow.any(axis=0))
    tall = [arrow[:, column].sum() for column in columns]
    # Pointing right: the wide base of the head lies right of the shaft.
    assert np.argmax(tall) > len(tall) / 3
    assert tall[-1] <= 3


def test_later_objects_cover_earlier_ones():
    under, over = lone().objects[0], lone(colour="blue", size="small").objects[0]
    above = render([Scene(WHITE, (under, over))])[0]
    hidden = render([Scene(WHITE, (over, under))])[0]
    assert tuple(above[32, 32]) == COLOUR_RGB["blue"]
    assert tuple(hidden[32, 32]) == COLOUR_RGB["red"]


def test_horizon_and_gradient_run_from_top_to_bottom():
    horizon, gradient = render(
        [Scene(Background(kind, ("white", "black")), ()) for kind in ("horizon", "gradient")]
    )
    assert (horizon[:HORIZON] == 255).all()
    assert (horizon[HORIZON:] == 0).all()
    assert (gradient[0] == 255).all()
    assert (gradient[-1] == 0).all()
    assert (np.diff(gradient[:, 0, 0].astype(int)) <= 0).all()


def test_stripes_checker_and_dots_repeat():
    kinds = ("stripes", "checker", "dots")
    stripes, checker, dots = render(
        [Scene(Background(kind, ("white", "black")), ()) for kind in kinds]
    )[..., 0]
    assert (stripes == stripes[:, :1]).all()
    assert (stripes[TILE:] == stripes[:-TILE]).all()
    assert (checker[TILE:] == 255 - checker[:-TILE]).all()
    assert (dots[:, TILE:] == dots[:, :-TILE]).all()
    assert dots[TILE // 2, TILE // 2] == 0
    assert 0.8 < (dots == 255).mean() < 0.95


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_a_scene_looks_the_same_alone_and_in_a_batch(world):
    drawn = scenes(world, "train-pixels", range(300))
    together = render(drawn)
    assert together.shape == (300, 64, 64, 3)
    assert together.dtype == np.uint8
    for index in (0, 150, 255, 256, 299):
        assert (render([drawn[index]])[0] == together[index]).all()


def test_arrays_and_scenes_render_alike():
    arrays = scene_arrays(WORLDS["M"], "iid", range(50))
    assert (render(arrays) == render(arrays.scenes())).all()


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_the_mirrored_scene_is_the_mirrored_picture(world):
    arrays = scene_arrays(world, "iid", range(400))
    seen = render(arrays)[:, :, ::-1].astype(int)
    assert np.abs(render(arrays.mirrored()) - seen).max() <= 1


def test_no_scenes_give_no_pictures():
    assert render([]).shape == (0, 64, 64, 3)


def test_a_scene_without_objects_is_its_background():
    assert (render([Scene(WHITE, ())]) == 255).all()


@pytest.mark.parametrize("centre", [{"x": 11.0}, {"x": 53.0}, {"y": -4.0}, {"y": 70.0}])
def test_objects_beyond_the_canvas_are_refused(centre):
    with pytest.raises(UsageError, match="object of scene 1 reaches over the 64 x 64 canvas; keep"):
        render([lone(), lone(**centre)])


def test_objects_that_touch_the_border_are_drawn():
    for x, y in ((12.0, 12.0), (52.0, 52.0), (12.0, 52.0)):
        scene = lone(x=x, y=y)
        assert np.abs(render([scene])[0] - draw(scene)).max() < 40


def test_unused_slots_leave_no_trace():
    arrays = SceneArrays.of([lone(), Scene(WHITE, lone().objects * 3)])
    assert arrays.shape.shape == (2, 3)
    assert (render(arrays)[0] == render([lone()])[0]).all()


def test_fills_can_be_told_apart_wherever_worlds_use_them():
    """Any two fills of one object differ by the full colour of at least 15 pixels."""
    world = WORLDS["M"]
    for size in (name for name in SIZES if name not in world.solid_sizes):
        for shape in SHAPES:
            cast = [lone(shape=shape, size=size, fill=fill, colour="blue") for fill in FILLS]
            shown = render(cast)[..., 0].astype(float) / (255 - COLOUR_RGB["blue"][0])
            apart = np.abs(shown[:, None] - shown[None]).sum(axis=(2, 3))
            assert apart[~np.eye(len(FILLS), dtype=bool)].min() > 15, (shape, size)


def test_cells_and_centres_share_one_grid():
    item = lone().objects[0]
    assert CELLS[4] == item.cell
