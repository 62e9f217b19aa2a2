"""What every scene keeps, checked on scenes and pictures, not by the sampler's own code."""

from collections import Counter
from itertools import combinations
from math import hypot

import numpy as np
import pytest

from vlv_plugins.scenes.colour import delta_e
from vlv_plugins.scenes.render import render
from vlv_plugins.scenes.splits import scenes, splits
from vlv_plugins.scenes.vocabulary import CANVAS, CELLS, COLOUR_RGB, SIZE_RADII
from vlv_plugins.scenes.world import MARGIN, MIN_DELTA_E, MIN_VISIBLE, WORLDS, Background, Scene

PAIRS = [(world, split) for world in WORLDS.values() for split in splits(world)]
IDS = [f"{world.name}-{split}" for world, split in PAIRS]


@pytest.fixture(scope="module")
def drawn():
    return {(world.name, split): scenes(world, split, range(1500)) for world, split in PAIRS}


@pytest.mark.parametrize(("world", "split"), PAIRS, ids=IDS)
def test_only_the_world_s_own_words_occur(world, split, drawn):
    for scene in drawn[world.name, split]:
        assert scene.background.kind in world.backgrounds
        assert set(scene.background.colours) <= set(world.background_colours)
        assert 1 <= len(scene.objects) <= world.max_objects
        for item in scene.objects:
            assert item.shape in world.shapes
            assert item.colour in world.colours
            assert item.size in world.sizes
            assert item.fill in world.fills
            assert item.fill == "solid" or item.size not in world.solid_sizes


@pytest.mark.parametrize(("world", "split"), PAIRS, ids=IDS)
def test_centres_are_clear_of_cell_borders(world, split, drawn):
    for scene in drawn[world.name, split]:
        for item in scene.objects:
            row, column = divmod(CELLS.index(item.cell), 3)
            for centre, third in ((item.x, column), (item.y, row)):
                low, high = third * CANVAS / 3, (third + 1) * CANVAS / 3
                assert low + MARGIN <= centre <= high - MARGIN
                assert SIZE_RADII[item.size] <= centre <= CANVAS - SIZE_RADII[item.size]
                assert (centre * 16).is_integer()


@pytest.mark.parametrize(("world", "split"), PAIRS, ids=IDS)
def test_no_two_objects_share_a_cell(world, split, drawn):
    for scene in drawn[world.name, split]:
        cells = [item.cell for item in scene.objects]
        assert len(set(cells)) == len(cells)


def test_objects_of_world_s_never_touch(drawn):
    for split in splits(WORLDS["S"]):
        for scene in drawn["S", split]:
            for a, b in combinations(scene.objects, 2):
                apart = hypot(a.x - b.x, a.y - b.y)
                assert apart >= SIZE_RADII[a.size] + SIZE_RADII[b.size] + 1


def test_overlapping_objects_of_world_m_differ_in_colour(drawn):
    overlaps = 0
    for scene in drawn["M", "count"]:
        for a, b in combinations(scene.objects, 2):
            if hypot(a.x - b.x, a.y - b.y) < SIZE_RADII[a.size] + SIZE_RADII[b.size]:
                overlaps += 1
                assert a.colour != b.colour
    assert overlaps > 100


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_every_object_stands_out_from_what_the_background_shows(world, drawn):
    """Against the pixels of the rendered background, not the table that the sampler reads."""
    shown: dict[Background, np.ndarray] = {}
    for scene in drawn[world.name, "train"]:
        if scene.background not in shown:
            picture = render([Scene(scene.background, ())])[0].reshape(-1, 3)
            seen, counts = np.unique(picture, axis=0, return_counts=True)
            # The antialiased rims of dots mix both colours in a few pixels: no background.
            kept = np.argsort(-counts)[: 2 if scene.background.kind == "dots" else None]
            shown[scene.background] = seen[kept].astype(float)
        for item in scene.objects:
            difference = delta_e([COLOUR_RGB[item.colour]], shown[scene.background])
            assert difference.min() >= MIN_DELTA_E - 1  # a gradient's pixels are rounded


@pytest.mark.parametrize("split", ["train", "count", "held-out"])
def test_enough_of_every_object_is_visible(split, drawn):
    """Draw each silhouette alone and then what covers it: at least 60 % of its pixels stay."""
    least = 1.0
    for scene in drawn["M", split][:500]:
        masks = silhouettes(scene)
        for number, mask in enumerate(masks):
            hidden = np.any(masks[number + 1 :], axis=0) if number + 1 < len(masks) else False
            least = min(least, (mask & ~hidden).sum() / mask.sum())
    assert least >= MIN_VISIBLE - 0.02  # a pixel of a small shape is two per cent


def silhouettes(scene: Scene) -> np.ndarray:
    """Which pixels each object covers when it is solid and alone: (objects, 64, 64)."""
    black = Background("plain", ("black",))
    alone = [
        Scene(black, (type(item)(**{**vars(item), "fill": "solid", "colour": "lime"}),))
        for item in scene.objects
    ]
    return render(alone)[..., 1] > COLOUR_RGB["lime"][1] / 2


def test_some_objects_do_overlap_in_world_m(drawn):
    scenes_with = 0
    for scene in drawn["M", "train"][:300]:
        masks = silhouettes(scene)
        scenes_with += bool((masks.sum(axis=0) > 1).any())
    assert 5 < scenes_with < 150


def share(counter: Counter[str], name: str) -> float:
    return counter[name] / sum(counter.values())


def test_world_s_has_two_objects_in_six_of_ten(drawn):
    counts = Counter(len(scene.objects) for scene in drawn["S", "train"])
    assert counts[2] / 1500 == pytest.approx(0.6, abs=0.05)


def test_world_m_has_the_frequencies_of_its_weights(drawn):
    counts = Counter(len(scene.objects) for scene in drawn["M", "train"])
    for number, weight in enumerate(WORLDS["M"].count_weights, start=1):
        assert counts[number] / 1500 == pytest.approx(weight, abs=0.05)


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_every_value_of_every_attribute_is_common(world, drawn):
    objects = [item for scene in drawn[world.name, "train"] for item in scene.objects]
    for attribute, values in {
        "shape": world.shapes,
        "colour": world.colours,
        "size": tuple(world.sizes),
        "cell": CELLS,
    }.items():
        counts = Counter(getattr(item, attribute) for item in objects)
        for value in values:
            assert share(counts, value) > 0.5 / len(values), (attribute, value)


def test_kinds_of_background_are_evenly_drawn(drawn):
    kinds = Counter(scene.background.kind for scene in drawn["M", "train"])
    for kind in WORLDS["M"].backgrounds:
        assert share(kinds, kind) == pytest.approx(1 / 6, abs=0.05)
