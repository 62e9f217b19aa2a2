"""Shapes: what they enclose, by corners and circles; symmetry; occlusion; how far they may turn."""

from itertools import combinations

import numpy as np
import pytest

from tests.plugins.scenes.reference import in_shape
from vlv_plugins.scenes.shapes import CAP_STEPS, TURNS, caps, signed_distance
from vlv_plugins.scenes.vocabulary import SHAPES

CODES = range(len(SHAPES))


def grid(width: int = 161) -> tuple[np.ndarray, np.ndarray]:
    axis = np.linspace(-1.2, 1.2, width, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


def silhouette(code: int, angle: float) -> np.ndarray:
    x, y = grid(121)
    cosine, sine = np.float32(np.cos(np.deg2rad(angle))), np.float32(np.sin(np.deg2rad(angle)))
    return signed_distance(code, cosine * x + sine * y, cosine * y - sine * x) < 0


@pytest.mark.parametrize("code", CODES, ids=SHAPES)
def test_the_sign_agrees_with_corners_and_circles(code):
    x, y = grid()
    points = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64)
    inside = in_shape(points, SHAPES[code]).reshape(x.shape)
    distance = signed_distance(code, x, y)
    clear = np.abs(distance) > 0.01
    assert ((distance < 0) == inside)[clear].all()
    assert clear.mean() > 0.8


@pytest.mark.parametrize("code", CODES, ids=SHAPES)
def test_it_is_a_distance_near_the_outline(code):
    """Within 0.1 radii of the outline, but for corners, one step outwards adds one step."""
    x, y = grid(401)
    distance = signed_distance(code, x, y).astype(np.float64)
    step = float(x[0, 1] - x[0, 0])
    down, across = np.gradient(distance, step)
    slope = np.hypot(down, across)[np.abs(distance) < 0.1]
    assert slope.max() < 1.5
    assert (np.abs(slope - 1) < 0.02).mean() > 0.85


@pytest.mark.parametrize("code", CODES, ids=SHAPES)
def test_each_shape_is_its_own_mirror_image(code):
    x, y = grid()
    assert signed_distance(code, -x, y) == pytest.approx(signed_distance(code, x, y), abs=1e-5)


@pytest.mark.parametrize("code", CODES, ids=SHAPES)
def test_each_shape_fills_its_disc_and_no_more(code):
    x, y = grid()
    reach = np.hypot(x, y)[signed_distance(code, x, y) < 0].max()
    assert 0.93 < reach <= 1.0


def test_upright_or_turned_no_two_shapes_share_their_outline():
    """Intersection over union of any two at any allowed turns stays well below one."""
    shown = {
        code: [silhouette(code, turn) for turn in np.linspace(-TURNS[name], TURNS[name], 9)]
        for code, name in enumerate(SHAPES)
    }
    for first, second in combinations(CODES, 2):
        worst = max((a & b).sum() / (a | b).sum() for a in shown[first] for b in shown[second])
        assert worst < 0.78, (SHAPES[first], SHAPES[second])


def test_a_turned_square_is_no_diamond():
    turned_apart = 45 - TURNS["square"] - TURNS["diamond"]
    assert turned_apart >= 20


def test_caps_rise_from_nothing_to_everything():
    table = caps()
    assert table.shape == (len(SHAPES), CAP_STEPS + 1)
    assert (np.diff(table, axis=1) >= 0).all()
    assert (table[:, 0] <= 0.01).all()
    assert (table[:, -1] == 1).all()


def test_the_cap_of_a_disc_is_the_circular_segment():
    depth = 2 * np.arange(CAP_STEPS + 1) / CAP_STEPS
    height = 1 - depth
    segment = (np.arccos(height) - height * np.sqrt(1 - height**2)) / np.pi
    assert caps()[SHAPES.index("circle")] == pytest.approx(segment, abs=0.012)


@pytest.mark.parametrize("code", CODES, ids=SHAPES)
def test_caps_bound_what_a_disc_covers(code):
    """Discs of any size from any side cover no more than the half-plane that reaches as deep."""
    generator = np.random.Generator(np.random.Philox(key=code))
    x, y = grid(201)
    inside = signed_distance(code, x, y) < 0
    points = np.stack([x[inside], y[inside]], axis=1)
    for _ in range(60):
        radius, depth = generator.uniform(0.4, 2.4), generator.uniform(0, 1.2)
        side = generator.uniform(0, 2 * np.pi)
        centre = (1 + radius - depth) * np.array([np.cos(side), np.sin(side)])
        covered = (np.hypot(*(points - centre).T) < radius).mean()
        step = int(np.ceil(depth / 2 * CAP_STEPS))
        assert covered <= caps()[code, step] + 0.01
