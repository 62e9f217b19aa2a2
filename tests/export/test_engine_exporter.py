"""`--rtx` and `--trt`: what their options mean, what is planned, and what the engines are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.export import engine_artefact, tiny_artefact
from tests.export.conftest import Tiny
from tests.export.fake_device import fake_sessions
from vlv_core.errors import UsageError
from vlv_core.generation import GenerationOptions
from vlv_core.parts import CAPTION_PARTS
from vlv_core.plugins import load_plugins
from vlv_export import _describe
from vlv_export.exporters import Planned, choose_dtypes, open_exporters
from vlv_export.manifest import GraphEntry, TensorEntry, VariantEntry, read_manifest
from vlv_export.parity.report import Level, Report
from vlv_export.runtime.captioner import open_checked
from vlv_export.runtime.sessions import Sessions
from vlv_export.tensorrt import _exporter, engines, proof
from vlv_export.tensorrt._exporter import EngineExporter, RtxExporter, TrtExporter
from vlv_export.tensorrt.gpus import Gpu
from vlv_export.tensorrt.libraries import LibraryFacts, library
from vlv_export.tensorrt.settings import Settings, named, read_settings

SHAPES = {"prefix_length": 77, "max_length": 2048}


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> list[Gpu]:
    """The GPUs of this machine; none, unless a test adds some."""
    found: list[Gpu] = []
    for module in (engines, proof):
        monkeypatch.setattr(module, "gpus", lambda: found)
    return found


def planned(out: Path, exporter: EngineExporter, *dtypes: str) -> list[Planned]:
    return exporter.plan(engine_artefact.request(out, dtypes or exporter.default))


def test_options_are_read() -> None:
    given = {"sm": "89, sm86", "capacity": "384,160", "batch": "16,1", "hardware": "ampere+"}
    assert read_settings("trt", {**given, "version-compatible": "yes"}) == Settings(
        library="trt",
        sm=(86, 89),
        capacities=(160, 384),
        batches=(1, 16),
        hardware="ampere+",
        version_compatible=True,
    )
    assert read_settings("rtx", {}) == Settings(library="rtx")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("sm", "8.6", "--sm takes whole numbers from 1 on with commas, not '8.6'"),
        ("sm", "0", "--sm takes whole numbers"),
        ("capacity", "much", "--capacity takes whole numbers"),
        ("batch", "0", "--batch takes whole numbers from 1 on with commas, not '0'"),
        ("hardware", "amper+", r"no --hardware 'amper\+'; did you mean 'ampere\+'"),
    ],
)
def test_values_that_make_no_sense_are_told(option: str, value: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_settings("trt", {option: value})


def test_the_cache_has_room_for_a_long_caption_and_no_more() -> None:
    default = Settings(library="rtx")
    assert default.capacities_of(**SHAPES) == (384,)
    assert default.capacities_of(prefix_length=16, max_length=48) == (48,)
    chosen = replace(default, capacities=(128, 512))
    assert chosen.capacities_of(**SHAPES) == (128, 512)
    for each in (77, 4096):
        with pytest.raises(UsageError, match=f"--capacity {each} does not fit the model") as told:
            replace(default, capacities=(each,)).capacities_of(**SHAPES)
        assert told.value.hint == "use 78 to 2048"


def test_graphs_are_planned_before_the_engines_made_of_them(artefact: Path) -> None:
    graphs, engine = planned(artefact, RtxExporter({"sm": "120,86"}))
    assert (graphs.name, graphs.of, graphs.not_run) == ("onnx24-bf16", "", "")
    assert (engine.name, engine.of) == ("rtx-bf16-sm86+120", graphs.name)
    assert (engine.waits, engine.not_run) == ("", "no GPU here")
    assert graphs.bytes < engine.bytes
    assert graphs.settings == {"capacities": [24]}
    assert named("trt", "fp16", []) == "trt-fp16"


def test_more_heads_take_more_room(artefact: Path) -> None:
    (graphs, one) = planned(artefact, RtxExporter({}))
    (shared, two) = planned(artefact, RtxExporter({"capacity": "16,24"}))
    assert two.bytes - one.bytes == engines.CODE_BYTES + 2 * 440
    assert shared.bytes - graphs.bytes == _exporter.GRAPH_BYTES, "as graphs they share weights"


def test_both_exporters_plan_the_same_graphs(artefact: Path) -> None:
    rtx, trt = (planned(artefact, kind({"batch": "4"})) for kind in (RtxExporter, TrtExporter))
    assert rtx[0] == trt[0]
    assert trt[1].name == "trt-bf16"
    assert trt[1].waits.startswith("trt-bf16 waits for its machine: here is no package tensorrt")


def test_gpus_without_bfloat16_are_told_before_any_work(artefact: Path) -> None:
    with pytest.raises(UsageError, match="sm75 has no bfloat16"):
        planned(artefact, RtxExporter({"sm": "75,86"}))
    assert planned(artefact, RtxExporter({"sm": "75,86"}), "fp16")[1].name == "rtx-fp16-sm75+86"
    with pytest.raises(UsageError, match="does not build for sm90"):
        planned(artefact, RtxExporter({"sm": "90"}))


def test_tensorrt_builds_for_the_gpu_that_is_here(
    artefact: Path, here: list[Gpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = LibraryFacts("trt", "tensorrt", "tensorrt", "11.4")
    monkeypatch.setattr(engines, "library", lambda name: facts)
    here.append(Gpu("a card", 90))
    _, engine = planned(artefact, TrtExporter({}))
    assert (engine.name, engine.waits, engine.not_run) == ("trt-bf16-sm90", "", "")
    _, other = planned(artefact, TrtExporter({"sm": "89"}))
    assert (
        other.waits
        == "trt-bf16-sm89 waits for its machine: here is an sm90 GPU, and it is for sm89"
    )
    assert other.not_run == "built for sm89, and here is sm90"


def test_an_option_that_no_chosen_exporter_takes_is_told() -> None:
    plugins = load_plugins(third_party=False)
    with pytest.raises(UsageError, match="--sm says nothing to --onnx") as told:
        open_exporters(["onnx"], plugins=plugins, options={"sm": "86"})
    assert "--rtx" in str(told.value.hint) and "--trt" in str(told.value.hint)
    with pytest.raises(UsageError, match="--hardware says nothing to --onnx and --rtx"):
        open_exporters(["onnx", "rtx"], plugins=plugins, options={"hardware": "same"})
    found = open_exporters(["onnx", "trt"], plugins=plugins, options={"sm": "89"})
    assert isinstance(found["trt"], TrtExporter) and found["trt"].settings.sm == (89,)
    assert choose_dtypes(found, []) == {"onnx": ["fp32"], "trt": ["bf16"]}


def test_engines_are_described(with_engines: Path) -> None:
    manifest = read_manifest(with_engines)
    graphs, engine = manifest.variant("onnx24-fp16"), manifest.variant("rtx-fp16-sm86")
    assert graphs.for_engines and not engine.for_engines
    assert {part: graph.opset for part, graph in graphs.graphs.items()} == {
        "encoder": 24,
        "head": 24,
    }
    head = engine.graph("head")
    assert head.joined and head.shared_cache
    past = {each.name for each in head.inputs if each.name.startswith("past.")}
    assert set(head.aliases) == past and past
    assert engine.kv == graphs.kv
    assert (engine.kv["capacity"], engine.kv["dtype"]) == (24, "float16")
    rows = [each.shape for each in head.inputs if each.name in past]
    assert engine.kv["bytes_per_token"] == sum(2 * shape[1] * shape[3] for shape in rows)
    assert {k: engine.compat[k] for k in ("sm", "runtime", "graphs", "hardware")} == {
        "sm": [86],
        "runtime": "tensorrt-rtx",
        "graphs": "onnx24-fp16",
        "hardware": "same",
    }
    assert engine.compat["version"] == library("rtx").version
    assert engine.compat["device_bytes"] > 0
    assert engine.precision["requested"] == "fp16"
    assert engine.precision["proved"]["float16"] > 0.8
    assert sum(engine.precision["proved"].values()) == pytest.approx(1.0)
    assert set(engine.profiles) == {*CAPTION_PARTS}
    assert len(engine.profiles["head"]) == 2, "prefill and decode, of one network"


def test_what_was_built_runs_by_its_manifest(with_engines: Path) -> None:
    """Memory is laid out by what the manifest says of an engine, on any device."""
    manifest = read_manifest(with_engines)
    sessions = fake_sessions(with_engines, manifest, "rtx-fp16-sm86")
    engine = open_checked(sessions, manifest)
    graphs = open_checked(Sessions(with_engines, manifest, "onnx24-fp16", 1), manifest)
    pictures = list(np.random.default_rng(0).integers(0, 256, (35, 64, 64, 3), dtype=np.uint8))
    options = GenerationOptions(max_new_tokens=4, stop_on_repetition=False)
    found, wanted = (each.caption(pictures, options=options) for each in (engine, graphs))
    assert [each.tokens for each in found] == [each.tokens for each in wanted]


def test_outputs_have_the_axes_of_their_graph() -> None:
    def of(*shape: int | str) -> tuple[TensorEntry, ...]:
        return (TensorEntry(name="top", dtype="float32", shape=shape),)

    graph = GraphEntry(file="head.onnx", inputs=(), outputs=of("batch", "k", 7))
    assert engines._with_axes(of("?", "?", 7), graph) == graph.outputs
    for odd in (of("?", "?", 8), of("?", "?"), of("?", "?", "?", 7)):
        with pytest.raises(UsageError, match=r"output 'top' has the shape .* head\.onnx says"):
            engines._with_axes(odd, graph)
    with pytest.raises(UsageError, match="says nothing of it"):
        engines._with_axes(of("?"), replace(graph, outputs=()))


def test_several_capacities_are_several_heads(tiny: Tiny, artefact: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    out = tiny_artefact.copy(artefact, tmp_path)
    engine_artefact.add(out, RtxExporter({"sm": "86", "capacity": "16,24"}), *tiny)
    entry = read_manifest(out).variant("rtx-fp16-sm86")
    assert set(entry.graphs) == {"encoder", "head", "head.16"}
    assert entry.kv["capacities"] == [16, 24]
    sizes = {
        part: next(each.shape[2] for each in entry.graph(part).inputs if "past" in each.name)
        for part in ("head", "head.16")
    }
    assert sizes == {"head": 24, "head.16": 16}


def test_where_tensorrt_is_missing_the_graphs_are_made_and_tried(
    tiny: Tiny, artefact: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    out = tiny_artefact.copy(artefact, tmp_path)
    engine_artefact.add(out, TrtExporter({"sm": "90"}), *tiny)
    manifest = read_manifest(out)
    entry = manifest.variant("trt-fp16-sm90")
    assert (entry.state, entry.graphs) == ("pending", {})
    said = "trt-fp16-sm90 waits for its machine: here is no package tensorrt and no GPU"
    assert entry.waits.startswith(said)
    assert entry.compat["checked"].endswith("parsed the graphs and built them for sm89")
    assert set(entry.profiles) == {*CAPTION_PARTS}, "what it will be built with"
    assert manifest.variant("onnx24-fp16").state == "built"
    assert not list((out / "variants" / "trt-fp16-sm90").iterdir())


def test_the_default_is_an_engine_only_where_nothing_else_runs(with_engines: Path) -> None:
    manifest = read_manifest(with_engines)
    onnx, graphs, engine = (
        replace(manifest.variant(name), state="proved")
        for name in ("onnx-fp32", "onnx24-fp16", "rtx-fp16-sm86")
    )
    unproved = replace(onnx, state="built")
    bf16 = replace(graphs, dtype="bf16")

    def default(**variants: VariantEntry) -> str | None:
        return _describe.default_of(variants)

    assert default(graphs=graphs, engine=engine, onnx=onnx) == "onnx"
    assert default(engine=engine, graphs=graphs, unproved=unproved) == "graphs"
    assert default(engine=engine, bf16=bf16) == "engine", "nothing here runs bf16 graphs"
    assert default(bf16=bf16, waits=replace(engine, state="pending")) is None


def test_an_engine_is_proved_only_by_running_it() -> None:
    def report(**states: str) -> Report:
        levels = tuple(Level(level=name, state=state) for name, state in states.items())  # type: ignore[arg-type]
        return Report(model="m", variant="v", dtype="fp16", levels=levels)

    assert _describe.state_of(report(L0="passed", L1="not run", L5="passed")) == "built"
    assert _describe.state_of(report(L0="passed", L1="passed")) == "proved"
    assert _describe.state_of(report(L0="passed", L1="passed"), not_run="no GPU") == "built"
    assert _describe.state_of(report(L0="failed", L1="passed")) == "built"
