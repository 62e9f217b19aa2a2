"""The evaluator on captioners whose figures are known beforehand."""

import inspect
from dataclasses import replace
from typing import Any

import pytest

from tests.plugins.scenes.scripted import Answer, Scripted
from vlv_core.captioner import Captioner
from vlv_core.config import convert
from vlv_core.errors import ConfigError
from vlv_core.evaluation import Watcher
from vlv_core.plugins import load_plugins
from vlv_core.specs import resolve
from vlv_plugins.scenes.captions import caption
from vlv_plugins.scenes.evaluate import ScenesEvalConfig, evaluate
from vlv_plugins.scenes.splits import splits
from vlv_plugins.scenes.world import WORLDS, Scene

WORLD = WORLDS["S"]
TESTED = [name for name in splits(WORLD) if not name.startswith("train")]
COUNT = 60
OPTIONS = ScenesEvalConfig(captions=COUNT, reconstructions=0, batch=25)


def truth(scene: Scene) -> str:
    """In any wording; which, hangs on where the first object is."""
    return caption(scene, "dense", variant=int(16 * scene.objects[0].x))


def background_alone(scene: Scene) -> str:
    """A sentence of the grammar whose one object is nowhere in world S."""
    colour = scene.background.colours[0]
    return f"a plain {colour} background with a small striped lime heart in the top."


def wrong_colour(scene: Scene) -> str:
    """True but for every object's colour."""
    other = {colour: WORLD.colours[i - 1] for i, colour in enumerate(WORLD.colours)}
    objects = tuple(replace(item, colour=other[item.colour]) for item in scene.objects)
    return caption(replace(scene, objects=objects), "dense", variant=3)


def figures(answer: Answer, *, finish: str = "eos", **changes: Any) -> dict[str, Any]:
    known = dict.fromkeys(TESTED, COUNT)
    captioner = Scripted(WORLD, answer, known=known, finish=finish)
    return evaluate(captioner, replace(OPTIONS, **changes))


def values(entry: dict[str, dict[str, float]]) -> dict[str, float]:
    return {name: figure["value"] for name, figure in entry.items()}


def test_the_truth_is_perfect_on_every_split() -> None:
    found = figures(truth)
    assert set(found["splits"]) == set(TESTED)
    assert found["splits"]["iid"]["relation_accuracy"]["value"] == 1
    for entry in found["splits"].values():
        perfect = values(entry)
        for name in ("scene_f1", "precision", "coverage", "exact", "background_accuracy"):
            assert perfect[name] == 1
        assert perfect["hallucination"] == perfect["unparsable"] == perfect["repetition"] == 0
        assert perfect["count_accuracy"] == 1
        assert {perfect[f"accuracy_{name}"] for name in ("shape", "colour", "cell")} == {1}


def test_figures_have_intervals_and_counts() -> None:
    found = figures(truth)["splits"]
    assert found["iid"]["scene_f1"] == {"value": 1, "low": 1, "high": 1, "n": COUNT}
    assert found["mirrored"]["scene_f1"]["n"] == COUNT // 4
    assert found["iid"]["words"]["low"] < found["iid"]["words"]["value"]
    assert found["iid"]["words"]["value"] < found["iid"]["words"]["high"]


def test_the_background_alone_finds_no_object() -> None:
    found = values(figures(background_alone, splits=("iid",))["splits"]["iid"])
    assert found["background_accuracy"] == found["hallucination"] == 1
    assert found["scene_f1"] == found["precision"] == found["coverage"] == 0


def test_one_wrong_attribute_makes_objects_wrong() -> None:
    found = values(figures(wrong_colour, splits=("iid",))["splits"]["iid"])
    assert found["scene_f1"] == found["accuracy_colour"] == 0
    assert found["accuracy_shape"] == found["accuracy_size"] == found["accuracy_cell"] == 1
    assert found["background_accuracy"] == found["count_accuracy"] == 1


def test_another_language_is_unparsable() -> None:
    found = values(figures(lambda scene: "ein Kreis", splits=("iid",))["splits"]["iid"])
    assert found["unparsable"] == 1
    assert found["scene_f1"] == found["coverage"] == found["cider_d"] == 0
    assert found["words"] == 2
    assert "precision" not in found  # nothing was stated


def test_half_of_the_captions_wrong() -> None:
    """F1 = 2 * matched / (predicted + true), worked out from the scenes themselves."""
    seen: list[Scene] = []

    def alternate(scene: Scene) -> str:
        seen.append(scene)
        return truth(scene) if len(seen) % 2 else wrong_colour(scene)

    found = figures(alternate, splits=("iid",))["splits"]["iid"]["scene_f1"]
    objects = [len(scene.objects) for scene in seen]
    assert found["value"] == pytest.approx(sum(objects[::2]) / sum(objects))
    assert 0 < found["low"] < found["value"] < found["high"] < 1


def test_loops_and_cut_captions_are_counted() -> None:
    looped = values(figures(truth, finish="repetition", splits=("iid",))["splits"]["iid"])
    assert (looped["repetition"], looped["unfinished"]) == (1, 0)
    cut = values(figures(truth, finish="length", splits=("iid",))["splits"]["iid"])
    assert (cut["repetition"], cut["unfinished"]) == (0, 1)


def test_cider_prefers_the_truth() -> None:
    right = values(figures(truth, splits=("iid",))["splits"]["iid"])["cider_d"]
    wrong = values(figures(wrong_colour, splits=("iid",))["splits"]["iid"])["cider_d"]
    assert right > 2 * wrong > 0


def test_full_captions_every_split_as_often() -> None:
    found = figures(truth, full=True)["splits"]
    assert {entry["scene_f1"]["n"] for entry in found.values()} == {COUNT}


def test_pictures_come_in_batches_and_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []

    class Listening(Watcher):
        def progress(self, what: str, done: int, total: int) -> None:
            told.append((what, done, total))

    captioner = Scripted(WORLD, truth, known={"iid": COUNT})
    evaluate(captioner, replace(OPTIONS, splits=("iid",)), watcher=Listening())
    assert captioner.batches == [25, 25, 10]
    assert told == [("captions of iid", done, COUNT) for done in (25, 50, 60)]


def test_the_registered_spec_runs_it() -> None:
    spec = load_plugins().get("evaluator", "scenes").spec
    options = convert(spec.config, {"captions": 4, "reconstructions": 0, "splits": ["iid"]}, "x")
    found = resolve(spec.evaluate)(Scripted(WORLD, truth, known={"iid": 4}), options)
    assert found["splits"]["iid"]["scene_f1"]["value"] == 1


def test_defaults_are_the_captioner_s_own() -> None:
    own = inspect.signature(Captioner.reconstruct).parameters
    assert ScenesEvalConfig().guidance == own["guidance"].default
    assert ScenesEvalConfig().steps == own["steps"].default


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"world": "s"}, "no world named 's'; did you mean 'S'|no world named 's'; worlds: S, M"),
        ({"splits": ["iidd"]}, "has no split 'iidd'; did you mean 'iid'"),
        ({"captions": 0}, "captions is 0, but must be at least 1"),
        ({"reconstructions": -1}, "reconstructions is -1, but must be at least 0"),
        ({"captoins": 3}, "no key 'captoins'; did you mean 'captions'"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        convert(ScenesEvalConfig, options, "evaluator scenes")
