"""Reconstructions whose figures are known, read by the bundled oracle; marks of captions."""

from dataclasses import replace
from typing import Any

import pytest

from tests.plugins.scenes.scripted import Redraw, Scripted
from vlv_core.errors import ModelError
from vlv_core.evaluation import Watcher
from vlv_core.strips import Line, Row
from vlv_plugins.scenes.captions import caption
from vlv_plugins.scenes.evaluate import SWEEP, ScenesEvalConfig, evaluate
from vlv_plugins.scenes.marks import marks
from vlv_plugins.scenes.splits import scenes
from vlv_plugins.scenes.world import WORLDS, Background, Scene

WORLD = WORLDS["S"]
COUNT = 40
OPTIONS = ScenesEvalConfig(
    splits=("iid",), captions=1, reconstructions=COUNT, batch=16, shown=5, guidance=2.0
)


def truth(scene: Scene) -> str:
    return caption(scene, "dense", variant=3)


def first_alone(scene: Scene) -> Scene:
    return replace(scene, objects=scene.objects[:1])


def repainted(scene: Scene) -> Scene:
    """On another background, which no object's colour hides in."""
    [colour] = scene.background.colours
    other = {"white": "grey", "grey": "white", "charcoal": "black", "black": "charcoal"}
    return replace(scene, background=Background("plain", (other[colour],)))


class Shown(Watcher):
    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.told: list[tuple[str, int, int]] = []

    def show(self, row: Row) -> None:
        self.rows.append(row)

    def progress(self, what: str, done: int, total: int) -> None:
        self.told.append((what, done, total))


def figures(redraw: Redraw, **changes: Any) -> dict[str, Any]:
    captioner = Scripted(WORLD, truth, known={"iid": COUNT}, redraw=redraw)
    return evaluate(captioner, replace(OPTIONS, **changes))


def test_perfect_drawings_are_perfect() -> None:
    found = figures(lambda scene: scene)["reconstruction"]
    assert list(found) == ["original", "embedding", "caption"]
    for entry in found.values():
        assert entry["scene_f1"] == {"value": 1, "low": 1, "high": 1, "n": COUNT}
        assert entry["exact"]["value"] == entry["background_accuracy"]["value"] == 1


def test_a_missing_object_costs_coverage_not_precision() -> None:
    found = figures(first_alone)["reconstruction"]
    objects = [len(scene.objects) for scene in scenes(WORLD, "iid", range(COUNT))]
    assert found["embedding"]["precision"]["value"] == 1
    assert found["embedding"]["coverage"]["value"] == pytest.approx(COUNT / sum(objects))
    assert found["caption"]["coverage"]["value"] == 1, "the caption still says all"


def test_a_wrong_background_is_told_apart_from_objects() -> None:
    found = figures(repainted)["reconstruction"]["embedding"]
    assert found["background_accuracy"]["value"] == 0
    assert found["scene_f1"]["value"] > 0.9


def test_guidance_is_used_and_swept_only_in_full() -> None:
    captioner = Scripted(WORLD, truth, known={"iid": COUNT})
    found = evaluate(captioner, OPTIONS)
    assert set(captioner.guidances) == {2.0}
    assert set(found) == {"splits", "reconstruction"}
    found = evaluate(captioner, replace(OPTIONS, full=True, reconstructions=4))
    assert set(captioner.guidances) == {2.0, *SWEEP}
    assert list(found["guidance_embedding"]) == ["1", "1.5", "2", "3", "5"]
    assert found["guidance_caption"]["3"]["scene_f1"]["value"] == 1


def test_examples_are_shown_with_marks() -> None:
    shown = Shown()
    captioner = Scripted(WORLD, truth, known={"iid": COUNT}, redraw=repainted)
    evaluate(captioner, OPTIONS, watcher=shown)
    assert len(shown.rows) == 5
    row, scene = shown.rows[0], scenes(WORLD, "iid", [0])[0]
    assert len(row.pictures) == 3
    assert (row.pictures[0] == row.pictures[2]).all()
    assert (row.pictures[0] != row.pictures[1]).any()
    count = len(scene.objects)
    assert row.lines[0] == Line(truth(scene))
    assert row.lines[-2:] == [
        Line(f"from the embedding: {count} of {count} objects as they were", False),
        Line(f"from the caption: {count} of {count} objects as they were", True),
    ]
    assert shown.told[-3:] == [("drawings at guidance 2", done, COUNT) for done in (16, 32, 40)]


def test_no_reconstructions_need_no_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlv_plugins.scenes.evaluate._oracle", None)
    assert set(figures(first_alone, reconstructions=0)) == {"splits"}


def test_a_missing_oracle_is_told_before_captioning() -> None:
    captioner = Scripted(WORLDS["M"], truth, known={"iid": 2})
    with pytest.raises(ModelError, match="no oracle of world M"):
        evaluate(captioner, ScenesEvalConfig(world="M", captions=2))
    assert captioner.batches == []


TWO = next(scene for scene in scenes(WORLD, "iid", range(50)) if len(scene.objects) == 2)


def test_marks_of_the_truth_are_all_right() -> None:
    for variant in range(40):
        words, *statements = marks(caption(TWO, "dense", variant=variant), TWO)
        assert words.right is None
        assert len(statements) >= 3 and all(line.right for line in statements)


def test_marks_tell_what_is_wrong_and_what_is_missing() -> None:
    one = replace(TWO, objects=TWO.objects[:1])
    lines = marks(truth(one), TWO)
    assert [line.right for line in lines] == [None, True, True, False]
    missed = TWO.objects[1]
    assert lines[-1].text.startswith(f"not said: a {missed.size} {missed.colour} {missed.shape}")
    _, background, *others = marks(truth(repainted(TWO)), TWO)
    assert background.right is False and all(line.right for line in others)


def test_an_object_said_twice_is_right_once() -> None:
    twice = replace(TWO, objects=(TWO.objects[0], TWO.objects[0]))
    _, background, first, second, missed = marks(truth(twice), TWO)
    assert background.right and first.right and first.text == second.text
    assert second.right is False and missed.text.startswith("not said: ")


def test_marks_of_nonsense() -> None:
    assert marks("ein Kreis", TWO) == [
        Line("ein Kreis"),
        Line("not a sentence of this world", right=False),
    ]
