"""An export from end to end, with fakes for what is slow: order, caching, outcome."""

import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.core import tiny_folder
from tests.export.fake_exporter import FakeBuilder, FakeExporter, FakeTorch
from vlv_core.errors import ModelError, NotProved, PluginError, UsageError
from vlv_core.plugins import load_plugins
from vlv_core.registry import Owner, Plugins, Registered
from vlv_core.specs import ExporterSpec
from vlv_export import _describe, _pipeline, proving
from vlv_export.manifest import Manifest, read_manifest
from vlv_export.parity.report import read_json
from vlv_export.pipeline import Order, Outcome, Watcher
from vlv_export.workspace import beside

EXPORTER: FakeBuilder = FakeExporter()
"""the one that the plugin below opens"""


def exporter() -> FakeBuilder:
    return EXPORTER


class Heard(Watcher):
    """Remembers the steps."""

    def __init__(self) -> None:
        self.planned: list[str] = []
        self.steps: list[tuple[str, bool]] = []
        self.ended = 0

    def begin(self, steps: Sequence[str]) -> None:
        self.planned = list(steps)

    def step(self, name: str, *, kept: bool) -> None:
        self.steps.append((name, kept))

    def end(self, *, done: bool) -> None:
        self.ended += 1


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder.make(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> FakeTorch:
    fake = FakeTorch()
    monkeypatch.setattr(_pipeline, "capture", fake.capture)
    monkeypatch.setattr(_pipeline, "make_golden", fake.golden)
    monkeypatch.setattr(proving, "read_golden", lambda path: path.read_text())
    monkeypatch.setattr(_describe, "RUN_HERE", ("fake",))
    monkeypatch.setattr(_pipeline, "RUN_HERE", ("fake",))
    for each in (EXPORTER.built, EXPORTER.proved):
        each.clear()
    EXPORTER.breaks = ""
    return fake


@pytest.fixture
def order(model: Path, tmp_path: Path) -> Order:
    return Order(
        model=str(model),
        out=tmp_path / "OUT",
        exporters={"fake": EXPORTER},
        dtypes={"fake": ["good"]},
        plugins=plugins(),
    )


def plugins() -> Plugins:
    spec = ExporterSpec(name="fake", summary="text", run=f"{__name__}:exporter")
    offered = Registered("exporter", spec, Owner("test", "1", "test"))
    found = load_plugins(third_party=False)
    return replace(found, registered=(*found.registered, offered))


def export(order: Order, watcher: Watcher | None = None, **changes: Any) -> Outcome:
    return _pipeline.export(replace(order, **changes), watcher or Watcher())


def dtypes(*names: str) -> dict[str, Any]:
    return {"dtypes": {"fake": list(names)}}


def test_out_holds_what_the_manifest_says(order: Order, slow: FakeTorch) -> None:
    outcome = export(order, **dtypes("good", "other"))
    manifest = read_manifest(order.out)
    assert manifest == outcome.manifest
    described = {"manifest.json", "README.md", "reports/parity.json", "reports/parity.md"}
    there = {p.relative_to(order.out).as_posix() for p in order.out.rglob("*") if p.is_file()}
    assert there == {*manifest.files, *described}
    for name, entry in manifest.files.items():
        data = (order.out / name).read_bytes()
        assert (entry.bytes, entry.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert list(manifest.variants) == ["fake-good", "fake-other"]
    assert manifest.default == "fake-good"
    assert [path.name for path in order.out.parent.iterdir()] == ["OUT"]


def test_a_variant_is_described(order: Order, slow: FakeTorch) -> None:
    entry = export(order).manifest.variant("fake-good")
    assert entry.graph("head").file == "variants/fake-good/head.onnx"
    assert entry.graph("head").data == ("variants/fake-good/head.data",)
    # 2 heads of 8 numbers of 2 bytes; the tiny head holds 24 tokens
    assert entry.kv == {"capacity": 24, "dtype": "float16", "bytes_per_token": 32}
    assert entry.state == "proved"
    assert entry.parity["levels"] == {"L1": "passed", "L4": "not applicable: fake"}


def test_model_and_makers_are_named(order: Order, slow: FakeTorch) -> None:
    manifest = export(order).manifest
    assert manifest.model["name"] == "tiny"
    assert manifest.model["domain"] == "random numbers alone"
    assert set(manifest.model["parts"]) == {
        *("encoder", "bottleneck", "condition", "connector", "head")
    }
    assert {"vlv", "torch", "onnxruntime"} <= set(manifest.packages)
    assert manifest.tool["name"] == "vlv-export"


def test_steps_are_told_in_their_order(order: Order, slow: FakeTorch) -> None:
    heard = Heard()
    export(order, heard, **dtypes("good", "other"))
    assert [name for name, _ in heard.steps] == heard.planned
    assert heard.planned == [
        *("capture encoder", "capture head", "golden values", "assets"),
        *("build fake-good", "build fake-other", "prove fake-good", "prove fake-other"),
    ]
    assert heard.ended == 1


def test_a_failed_step_does_not_redo_the_earlier(order: Order, slow: FakeTorch) -> None:
    EXPORTER.breaks = "other"
    heard = Heard()
    with pytest.raises(ValueError, match="no other today"):
        export(order, heard, **dtypes("good", "other"))
    assert heard.ended == 1
    assert not order.out.exists()
    EXPORTER.breaks = ""
    heard = Heard()
    export(order, heard, **dtypes("good", "other"))
    kept = [name for name, kept in heard.steps if kept]
    assert kept == ["capture encoder", "capture head", "golden values", "assets", "build fake-good"]
    assert slow.captured == ["encoder", "head", "golden"]
    assert EXPORTER.built == ["good", "other", "other"]


def test_a_capture_that_failed_is_done_alone(order: Order, slow: FakeTorch) -> None:
    slow.breaks = "head"
    with pytest.raises(ValueError, match="no head today"):
        export(order)
    slow.breaks = ""
    export(order)
    assert slow.captured == ["encoder", "head", "head", "golden"]


def test_another_model_is_not_taken_for_this_one(
    order: Order, slow: FakeTorch, tmp_path: Path
) -> None:
    EXPORTER.breaks = "good"
    with pytest.raises(ValueError, match="no good today"):
        export(order)
    text = (Path(order.model) / "model.toml").read_text()
    other = shutil.copytree(order.model, tmp_path / "other")
    (other / "model.toml").write_text(text.replace('fit = "crop"', 'fit = "pad"'))
    EXPORTER.breaks = ""
    export(order, model=str(other))
    assert slow.captured == ["encoder", "head", "golden"] * 2


def test_what_is_not_proved_is_rejected_with_its_report(order: Order, slow: FakeTorch) -> None:
    with pytest.raises(NotProved, match=r"fake-bad is not what the model says: L1: .*logits") as e:
        export(order, **dtypes("good", "bad"))
    assert e.value.exit_code == 5
    assert "parity.md" in str(e.value.hint)
    rejected = beside(order.out, "rejected")
    assert not order.out.exists()
    reports = read_json(rejected / "reports" / "parity.json")
    assert {name: report.verdict for name, report in reports.items()} == {
        "fake-good": "passed",
        "fake-bad": "failed",
    }
    manifest = read_manifest(rejected)
    assert manifest.variant("fake-bad").state == "built"
    assert "failed" in (rejected / "README.md").read_text()


def test_after_a_rejection_nothing_is_made_again(order: Order, slow: FakeTorch) -> None:
    for _ in range(2):
        with pytest.raises(NotProved, match="fake-bad"):
            export(order, **dtypes("good", "bad"))
    export(order, **dtypes("good"))
    assert slow.captured == ["encoder", "head", "golden"]
    assert EXPORTER.built == ["good", "bad"]
    assert EXPORTER.proved == ["good", "bad", "bad"], "a proof that passed is kept, no other"
    assert [path.name for path in (order.out / "variants").iterdir()] == ["fake-good"]
    assert [path.name for path in order.out.parent.iterdir()] == ["OUT"]


def test_what_was_changed_after_a_rejection_is_made_again(order: Order, slow: FakeTorch) -> None:
    with pytest.raises(NotProved, match="fake-bad"):
        export(order, **dtypes("good", "bad"))
    rejected = beside(order.out, "rejected") / "variants"
    with (rejected / "fake-good" / "head.data").open("a") as stream:
        stream.write("more")
    export(order, **dtypes("good"))
    assert EXPORTER.built == ["good", "bad", "good"]


def test_a_variant_that_waits_is_listed_and_not_proved(order: Order, slow: FakeTorch) -> None:
    outcome = export(order, **dtypes("waits", "good"))
    entry = outcome.manifest.variants["fake-waits"]
    assert (entry.state, entry.graphs, entry.waits) == ("pending", {}, "waits for a target")
    assert list(outcome.reports) == ["fake-good"]
    assert outcome.manifest.default == "fake-good", "the first that is proved"


def test_a_variant_that_nothing_runs_here_is_built_and_no_more(
    order: Order, slow: FakeTorch
) -> None:
    manifest = export(order, **dtypes("odd", "good")).manifest
    assert manifest.variants["fake-odd"].state == "built"
    assert manifest.default == "fake-good"


def test_the_default_can_be_chosen(order: Order, slow: FakeTorch) -> None:
    chosen = export(order, default="fake-other", **dtypes("good", "other")).manifest
    assert chosen.default == "fake-other"
    with pytest.raises(UsageError, match="did you mean 'fake-good'"):
        export(order, default="fake-god", force=True)


def test_a_variant_that_another_program_runs_is_no_default(
    order: Order, slow: FakeTorch, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (_describe, _pipeline):
        monkeypatch.setattr(module, "RUN_HERE", ("onnx",))
    assert export(order).manifest.default is None
    assert json.loads((order.out / "manifest.json").read_text())["default"] is None
    with pytest.raises(UsageError, match=r"'fake-good' is run by another program, .* take none of"):
        export(order, default="fake-good", force=True)


def test_a_default_that_is_not_proved_beats_a_proof_of_another_programs(
    order: Order, slow: FakeTorch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_describe, "RUN_HERE", ("onnx",))
    manifest = export(order, **dtypes("odd", "good")).manifest
    odd = replace(manifest.variants["fake-odd"], exporter="onnx")
    mixed = {"fake-good": manifest.variants["fake-good"], "onnx-odd": odd}
    assert _describe.default_of(mixed) == "onnx-odd"


def test_the_card_and_the_small_files_are_whole(order: Order, slow: FakeTorch) -> None:
    export(order)
    card = (order.out / "README.md").read_text()
    assert card.startswith("# tiny\n")
    assert "random numbers alone" in card
    assert "error of 'logits' is 1e-07 (at most 1e-05)" in card
    generation = json.loads((order.out / "generation.json").read_text())
    assert (generation["max_length"], generation["prefix_length"]) == (24, 4)
    assert "latent_shape" not in generation
    preprocess = json.loads((order.out / "preprocess.json").read_text())
    assert preprocess["view"]["size"] == 64


def test_drawing_parts_come_with_reconstruct(order: Order, slow: FakeTorch) -> None:
    manifest: Manifest = export(order, reconstruct=True).manifest
    assert slow.captured == [
        *("encoder", "head", "condition", "text", "denoiser", "vae_decoder", "golden")
    ]
    assert {"unconditional.safetensors", "prompts/tokenizer-0.json"} <= set(manifest.files)
    assert json.loads((order.out / "generation.json").read_text())["schedule"]


def test_no_room_is_told_before_the_model_is_loaded(
    order: Order, slow: FakeTorch, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        free = 10

    monkeypatch.setattr("shutil.disk_usage", lambda path: Full)
    with pytest.raises(UsageError, match=r"the export needs about .* has 0 kB free"):
        export(order)
    assert not slow.captured


def test_sizes_are_planned_without_weights(order: Order, model: Path) -> None:
    _, plan = _pipeline.make_plan(order)
    saved = sum(
        path.stat().st_size for path in model.glob("*.safetensors") if "diffusion" not in path.name
    )
    assert plan.parts == ("encoder", "head")
    # The files hold the same float32 numbers, and a header each.
    assert 0.8 * saved < 4 * plan.weights < saved
    assert plan.neutral_bytes == 4 * plan.weights
    _, drawing = _pipeline.make_plan(replace(order, reconstruct=True))
    assert drawing.weights > plan.weights
    assert drawing.parts[2:] == ("condition", "text", "denoiser", "vae_decoder")


def test_models_that_are_none_are_told(order: Order, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("")
    with pytest.raises(UsageError, match="is a recipe, which holds no weights"):
        export(order, model=str(recipe))
    with pytest.raises(UsageError, match="--random-weights needs a recipe's file"):
        export(order, random_weights=True)
    with pytest.raises(ModelError, match="no model folder and no bundled model named 'minni'"):
        export(order, model="minni")


def test_an_artefact_is_no_model_to_export(order: Order, slow: FakeTorch, tmp_path: Path) -> None:
    export(order)
    with pytest.raises(ModelError, match="is an artefact already"):
        export(order, model=str(order.out), out=tmp_path / "again")


def test_only_its_own_exporter_proves_a_variant(order: Order, slow: FakeTorch) -> None:
    export(order)
    with pytest.raises(PluginError, match="no exporter named 'fake'"):
        proving.prove(order.out, "fake-good", ["L1"], plugins=load_plugins(third_party=False))


def test_an_exporter_that_proves_nothing_leaves_its_variants_unproved(
    order: Order, slow: FakeTorch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "EXPORTER", FakeBuilder())
    outcome = export(order, exporters={"fake": FakeBuilder()})
    assert outcome.manifest.variant("fake-good").state == "built"
    assert outcome.reports["fake-good"].verdict == "not run"
