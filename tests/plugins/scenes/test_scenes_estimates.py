"""Rates over many scenes, and their bootstrap intervals."""

import numpy as np
import pytest

from vlv_core.errors import UsageError
from vlv_plugins.scenes.captions import caption
from vlv_plugins.scenes.estimates import Estimate, aggregate
from vlv_plugins.scenes.scoring import ObjectScore, Score, score
from vlv_plugins.scenes.splits import scenes
from vlv_plugins.scenes.world import WORLDS


def made(
    *,
    predicted: int,
    true: int,
    matched: int,
    invented: int = 0,
    parsed: bool = True,
    background: bool | None = True,
    relations: int = 0,
    relations_right: int = 0,
) -> Score:
    right = {"shape": matched, "cell": true}
    return Score(
        parsed=parsed,
        objects=ObjectScore(predicted, true, matched, invented, right),
        background=background,
        relations=relations,
        relations_right=relations_right,
    )


THREE = [
    made(predicted=2, true=2, matched=2, relations=1, relations_right=1),
    made(predicted=3, true=2, matched=1, invented=1, background=False, relations=1),
    made(predicted=0, true=1, matched=0, parsed=False, background=False),
]


def test_rates_are_ratios_of_sums():
    rates = {name: item.value for name, item in aggregate(THREE, seed=0, resamples=50).items()}
    assert rates == pytest.approx(
        {
            "scene_f1": 2 * 3 / (5 + 5),
            "precision": 3 / 5,
            "coverage": 3 / 5,
            "hallucination": 1 / 5,
            "count_accuracy": 1 / 3,
            "background_accuracy": 1 / 3,
            "relation_accuracy": 1 / 2,
            "exact": 1 / 3,
            "unparsable": 1 / 3,
            "accuracy_shape": 3 / 5,
            "accuracy_cell": 1,
        }
    )


def test_f1_is_the_harmonic_mean_of_precision_and_coverage():
    rates = aggregate([made(predicted=5, true=3, matched=2)], seed=0, resamples=10)
    precision, coverage = rates["precision"].value, rates["coverage"].value
    assert rates["scene_f1"].value == pytest.approx(2 / (1 / precision + 1 / coverage))


def test_what_was_never_asked_has_no_rate():
    rates = aggregate([made(predicted=1, true=1, matched=1, background=None)], seed=0, resamples=5)
    assert "background_accuracy" not in rates
    assert "relation_accuracy" not in rates
    assert "scene_f1" in rates


def test_nothing_stated_has_no_precision_but_no_coverage_either():
    silent = made(predicted=0, true=2, matched=0, parsed=False)
    rates = aggregate([silent] * 3, seed=0, resamples=5)
    assert "precision" not in rates
    assert rates["coverage"] == Estimate(0, 0, 0)
    assert rates["scene_f1"].value == 0


def test_an_unparsable_answer_to_an_empty_scene_is_not_exact():
    rates = aggregate([made(predicted=0, true=0, matched=0, parsed=False)], seed=0, resamples=5)
    assert rates["exact"].value == 0
    assert rates["count_accuracy"].value == 0


def test_the_interval_is_that_of_a_proportion():
    """300 of 400 scenes right: the normal approximation is good to a per cent here."""
    scores = [made(predicted=1, true=1, matched=int(n < 300)) for n in range(400)]
    found = aggregate(scores, seed=3)["coverage"]
    half = 1.96 * (0.75 * 0.25 / 400) ** 0.5
    assert found.value == 0.75
    assert found.low == pytest.approx(0.75 - half, abs=0.01)
    assert found.high == pytest.approx(0.75 + half, abs=0.01)


def test_scenes_are_resampled_whole():
    """Five objects that are right or wrong together say no more than one."""
    single = [made(predicted=1, true=1, matched=n % 2) for n in range(100)]
    together = [made(predicted=5, true=5, matched=5 * (n % 2)) for n in range(100)]
    assert aggregate(single, seed=1)["coverage"] == aggregate(together, seed=1)["coverage"]


def test_intervals_depend_on_the_seed_alone():
    scores = [made(predicted=1, true=1, matched=n % 3 == 0) for n in range(60)]
    assert aggregate(scores, seed=1) == aggregate(scores, seed=1)
    assert aggregate(scores, seed=1) != aggregate(scores, seed=2)


def test_rare_relations_do_not_break_the_interval():
    """Some draws hold no scene with a relation at all."""
    scores = [made(predicted=1, true=1, matched=1) for _ in range(5)]
    scores.append(made(predicted=1, true=1, matched=1, relations=1, relations_right=1))
    found = aggregate(scores, seed=0)["relation_accuracy"]
    assert found == Estimate(1, 1, 1)


def test_captions_of_other_scenes_score_low():
    drawn = scenes(WORLDS["M"], "iid", range(400))
    captions = [caption(scene, "dense", variant=number) for number, scene in enumerate(drawn)]
    right = aggregate(
        [score(text, scene, "dense") for text, scene in zip(captions, drawn, strict=True)],
        seed=0,
        resamples=20,
    )
    shifted = aggregate(
        [score(text, scene, "dense") for text, scene in zip(captions[1:], drawn, strict=False)],
        seed=0,
        resamples=20,
    )
    assert right["scene_f1"] == Estimate(1, 1, 1)
    assert shifted["scene_f1"].value < 0.02
    assert shifted["hallucination"].value > 0.98


def test_no_scores_are_refused():
    with pytest.raises(UsageError, match="no scores to aggregate; score at least one scene"):
        aggregate([], seed=0)


def test_bounds_hold_the_value():
    generator = np.random.Generator(np.random.Philox(key=5))
    scores = [made(predicted=2, true=2, matched=int(generator.integers(0, 3))) for _ in range(90)]
    for found in aggregate(scores, seed=0).values():
        assert 0 <= found.low <= found.value <= found.high <= 1
