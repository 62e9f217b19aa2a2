"""Pairing an evaluator's figure: recorded captions, said again, score as they did."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlv_core.captioner import Captioner
from vlv_core.errors import ModelError
from vlv_core.evaluation import Watcher
from vlv_core.protocols import Caption
from vlv_core.registry import Owner, Plugins, Registered
from vlv_core.specs import EvaluatorSpec, View
from vlv_export.golden import GOLDEN, Scored, read_golden
from vlv_export.manifest import read_manifest
from vlv_export.parity import meaning
from vlv_export.parity.meaning import Recorder, Replay, digest, figure, record
from vlv_export.parity.scores import check_scores
from vlv_export.parity.target import Target
from vlv_export.pictures import synthetic


@dataclass(frozen=True)
class Options:
    splits: tuple[str, ...] = ()
    captions: int = 4
    reconstructions: int = 0
    seed: int = 0


def evaluate(captioner: Any, options: Options, *, watcher: Watcher) -> dict[str, Any]:
    """The share of captions that are at least a word long."""
    pictures = synthetic(options.captions, height=64, width=64, seed=options.seed)
    said = captioner.caption(pictures, options=None)
    value = sum(bool(each.text.strip()) for each in said) / len(said)
    return {"splits": {"iid": {"scene_f1": {"value": value, "n": len(said)}}}}


SPEC = EvaluatorSpec(
    name="scenes", summary="toy", evaluate="tests.export.test_parity_meaning:evaluate",
    config=Options,
)  # fmt: skip
PLUGINS = Plugins(registered=(Registered("evaluator", SPEC, Owner("toys", "1.0", "toys")),))


class Speaker:
    """Says a picture's digest, or nothing of every `silent`-th."""

    name, domain, view = "speaker", "", View(size=64)

    def __init__(self, silent: int = 10**9) -> None:
        self.silent = silent

    def caption(
        self, pictures: Any, *, options: Any = None, keys: Sequence[int] | None = None
    ) -> list[Caption]:
        return [
            Caption("" if (index + 1) % self.silent == 0 else digest(each), (1,), "eos", -1.0)
            for index, each in enumerate(pictures)
        ]


def test_a_recording_says_again_what_was_said() -> None:
    recording = record(Speaker(silent=4), plugins=PLUGINS)
    assert recording is not None and recording.scored.value == 0.75
    assert len(recording.pictures) == len(recording.scored.captions) == 200
    again = Replay("eager", recording.scored.captions)
    report = meaning.scorer(PLUGINS, "scenes", recording.scored.options)(again)
    assert figure(report, "splits", "iid", "scene_f1") == 0.75


def test_a_model_that_knows_another_world_is_not_recorded() -> None:
    assert record(Speaker(silent=1), plugins=PLUGINS) is None


def test_without_the_evaluator_nothing_is_recorded() -> None:
    assert record(Speaker(), plugins=Plugins()) is None


def test_an_evaluator_that_shows_other_pictures_is_told() -> None:
    with pytest.raises(ModelError, match="shows other pictures than when the model was exported"):
        Replay("eager", {}).caption(synthetic(1, height=8, width=8, seed=0))


def test_a_figure_that_is_not_reported_is_told() -> None:
    with pytest.raises(ModelError, match=r"reports no splits\.iid\.scene_f1"):
        figure({"splits": {}}, "splits", "iid", "scene_f1")


def test_pictures_are_told_apart_by_pixels_and_shape() -> None:
    picture = np.zeros((4, 8, 3), np.uint8)
    assert digest(picture) == digest(picture.copy())
    assert digest(picture) != digest(picture.reshape(8, 4, 3))
    assert digest(picture) != digest(picture + np.uint8(1))


def test_a_recorder_is_the_captioner_that_it_wraps() -> None:
    recorder = Recorder(Speaker())
    assert (recorder.name, recorder.domain, recorder.view) == ("speaker", "", View(size=64))
    said = recorder.caption(synthetic(2, height=8, width=8, seed=0))
    assert [each.text for each in said] == [*recorder.said]


@pytest.fixture
def scored(proven: Path, captioner: Captioner) -> Target:
    """The tiny artefact with a recording of the tiny model."""
    recorder = Recorder(captioner)
    options = {"captions": 6}
    report = meaning.scorer(PLUGINS, "scenes", options)(recorder)
    captions = {key: [said.text, said.finish_reason] for key, said in recorder.said.items()}
    kept = Scored(
        evaluator="scenes", options=options, group="splits", entry="iid", figure="scene_f1",
        value=figure(report, "splits", "iid", "scene_f1"), captions=captions,
    )  # fmt: skip
    golden = read_golden(proven / GOLDEN)
    golden = replace(golden, facts=replace(golden.facts, scored=kept))
    return Target(proven, read_manifest(proven), "onnx-fp32", golden)


def spoilt(target: Target, **changes: Any) -> Target:
    facts = target.golden.facts
    assert facts.scored is not None
    changed = replace(facts, scored=replace(facts.scored, **changes))
    return replace(target, golden=replace(target.golden, facts=changed))


def test_an_artefact_that_means_the_same_passes_l4(scored: Target) -> None:
    level = check_scores(scored, plugins=PLUGINS)
    assert level.state == "passed" and level.checks[0].value == 0
    assert level.notes == ("6 paired pictures; 0 captions differ by a word or more",)


def test_an_artefact_that_means_something_else_fails_l4(scored: Target) -> None:
    assert scored.golden.facts.scored is not None
    mute = {key: ["", "eos"] for key in scored.golden.facts.scored.captions}
    level = check_scores(spoilt(scored, captions=mute), plugins=PLUGINS)
    assert level.state == "failed"
    assert "difference, points of 'scene_f1' is 100 (at most 0.5)" in level.failures()[0].sentence()


def test_l4_is_not_run_without_its_evaluator_or_with_other_pictures(scored: Target) -> None:
    level = check_scores(scored, plugins=Plugins())
    assert level.state == "not run" and "no evaluator named 'scenes'" in level.reason
    level = check_scores(spoilt(scored, options={"captions": 6, "seed": 1}), plugins=PLUGINS)
    assert level.state == "not run" and "shows other pictures" in level.reason
