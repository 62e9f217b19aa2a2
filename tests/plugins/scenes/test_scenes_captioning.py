"""References of scenes, means with intervals, and figures as plain data."""

import json

import numpy as np
import pytest

from vlv_core.errors import UsageError
from vlv_plugins.scenes.captioning import REFERENCES, named, references
from vlv_plugins.scenes.estimates import Estimate, averages
from vlv_plugins.scenes.facts import facts_of
from vlv_plugins.scenes.parsing import parse
from vlv_plugins.scenes.splits import scenes
from vlv_plugins.scenes.world import WORLDS

SCENES = scenes(WORLDS["S"], "iid", range(60))


def test_references_are_true_and_in_several_wordings() -> None:
    wordings = set()
    for index, scene in enumerate(SCENES):
        texts = references(scene, index)
        assert len(texts) == REFERENCES
        stated = {facts_of(f.objects, background=f.background) for f in map(parse, texts) if f}
        assert len(stated) == 1, "they say the same"
        wordings.add(tuple(texts))
        assert len(set(texts)) > 1
    assert len(wordings) == len(SCENES)


def test_references_are_the_same_at_any_time() -> None:
    assert references(SCENES[0], 2**40) == references(SCENES[0], 2**40)


def test_means_and_their_intervals() -> None:
    values = np.random.Generator(np.random.Philox(key=1)).normal(10, 2, size=400).tolist()
    found = averages({"words": values, "ones": [1.0] * 400}, seed=0)
    assert found["words"].value == pytest.approx(np.mean(values))
    half = 1.96 * np.std(values) / 20  # the normal approximation
    assert found["words"].low == pytest.approx(found["words"].value - half, abs=0.05)
    assert found["words"].high == pytest.approx(found["words"].value + half, abs=0.05)
    assert found["ones"] == Estimate(1, 1, 1)


def test_a_mean_of_noughts_is_a_figure() -> None:
    assert averages({"repetition": [0.0, 0.0]}, seed=0)["repetition"] == Estimate(0, 0, 0)


def test_no_scenes_have_no_mean() -> None:
    with pytest.raises(UsageError, match="no figures to average"):
        averages({"words": []}, seed=0)


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="is longer than"):
        averages({"a": [1.0], "b": [1.0, 2.0]}, seed=0)


def test_figures_are_json() -> None:
    figures = named({"f1": Estimate(0.5, 0.25, 0.75)}, count=9)
    assert json.loads(json.dumps(figures)) == {
        "f1": {"value": 0.5, "low": 0.25, "high": 0.75, "n": 9}
    }
