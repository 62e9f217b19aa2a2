"""Engines with seeded faults: each is caught, by the level or the refusal that is named here."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.export import engine_artefact, faults, tiny_artefact
from tests.export.conftest import Tiny
from vlv_core.errors import ModelError, NotProved
from vlv_core.plugins import load_plugins
from vlv_export.building import build_engines, plan_builds
from vlv_export.engine_facts import targets
from vlv_export.manifest import read_manifest, write_manifest
from vlv_export.parity.report import Report
from vlv_export.pipeline import Watcher
from vlv_export.preflight import check_artefact
from vlv_export.proving import prove
from vlv_export.tensorrt import engines, proof
from vlv_export.tensorrt._exporter import RtxExporter
from vlv_export.tensorrt.gpus import Gpu

ENGINE, GRAPHS = "rtx-fp16-sm86", "onnx24-fp16"
PLUGINS = load_plugins(third_party=False)


@pytest.fixture
def out(with_engines: Path, tmp_path: Path) -> Path:
    return tiny_artefact.copy(with_engines, tmp_path)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[Gpu]:
    """A GPU that engines for sm86 do not run on."""
    found = [Gpu("another", 89)]
    for module in (engines, proof):
        monkeypatch.setattr(module, "gpus", lambda: found)
    return found


def proved(out: Path, variant: str = ENGINE, *levels: str) -> Report:
    return prove(out, variant, levels or ("L0", "L1", "L5"), plugins=PLUGINS)


def states(report: Report) -> dict[str, str]:
    return {level.level: level.state for level in report.levels}


def test_a_sound_engine_passes_what_needs_no_gpu(with_engines: Path) -> None:
    report = proved(with_engines)
    assert states(report) == {"L0": "passed", "L1": "not run", "L5": "passed"}
    assert report.level("L1").reason == "no GPU here"
    assert report.verdict == "passed"
    kinds = {check.figure for check in report.level("L0").checks}
    assert {"products of another type than fp16", "share of weights in Half"} <= kinds


def test_a_changed_byte_is_caught_by_l0(out: Path) -> None:
    engine = out / read_manifest(out).variant(ENGINE).graph("head").file
    data = bytearray(engine.read_bytes())
    data[len(data) // 2] ^= 1
    engine.write_bytes(bytes(data))
    report = proved(out)
    assert states(report) == {"L0": "failed", "L1": "not run", "L5": "not run"}
    assert "head.engine was changed since it was exported" in report.failures()[0]
    assert report.level("L1").reason == "the engine is not to be trusted"


def test_a_short_engine_is_caught_by_l0(out: Path) -> None:
    engine = out / read_manifest(out).variant(ENGINE).graph("encoder").file
    engine.write_bytes(engine.read_bytes()[:1000])
    assert "has 1000 bytes; the manifest says" in proved(out).failures()[0]


def test_a_variant_without_engines_is_caught_by_l0(out: Path) -> None:
    faults.change_variant(out, ENGINE, replace(read_manifest(out).variant(ENGINE), graphs={}))
    assert "has no part 'encoder'; it has none" in proved(out).failures()[0]


@pytest.mark.parametrize("told", [None, "86", ["x"], {"86": 89}])
@pytest.mark.usefixtures("here")
def test_a_manifest_that_names_no_gpu_is_not_crashed_on(told: object, out: Path) -> None:
    entry = read_manifest(out).variant(ENGINE)
    faults.change_variant(out, ENGINE, replace(entry, compat={**entry.compat, "sm": told}))
    report = proved(out)
    assert report.level("L1").reason == "built for no GPU that is known, and here is sm89"
    [wanted] = plan_builds(read_manifest(out), variants=[ENGINE], sm=())
    assert wanted.target.sm == (89,)
    assert targets(read_manifest(out).variant(ENGINE)).startswith("its builder's GPU on ")


def test_a_float32_engine_sold_as_fp16_is_caught_by_l0(
    tiny: Tiny, artefact: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    out = tiny_artefact.copy(artefact, tmp_path)
    engine_artefact.add(out, RtxExporter({"sm": "86"}), *tiny, dtypes=["fp32"])
    assert states(proved(out, "rtx-fp32-sm86"))["L0"] == "passed"
    sold = replace(read_manifest(out).variant("rtx-fp32-sm86"), dtype="fp16")
    faults.change_variant(out, ENGINE, sold)
    report = proved(out)
    assert states(report)["L0"] == "failed"
    assert "was to be fp16, and its layer" in report.failures()[0]


def test_float32_graphs_sold_as_fp16_are_not_compiled(
    tiny: Tiny, artefact: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    out = tiny_artefact.copy(artefact, tmp_path)
    engine_artefact.add(out, RtxExporter({"sm": "86"}), *tiny, dtypes=["fp32"])
    sold = replace(read_manifest(out).variant("rtx-fp32-sm86"), dtype="fp16")
    faults.change_variant(out, ENGINE, sold)
    with pytest.raises(NotProved, match="is to be fp16, and its graph multiplies float32"):
        build(out, 89)
    assert "rtx-fp16-sm89" not in read_manifest(out).variants


def build(out: Path, sm: int) -> None:
    wanted = plan_builds(read_manifest(out), variants=[ENGINE], sm=[sm])
    build_engines(out, wanted, plugins=PLUGINS, watcher=Watcher())


def test_layers_of_another_engine_are_caught_by_l0(out: Path) -> None:
    layers = (out / read_manifest(out).variant(ENGINE).graph("head").file).with_name("layers.json")
    told = json.loads(layers.read_text())
    layers.write_text(json.dumps({"encoder": told["encoder"]}))
    assert "layers.json has" in proved(out).failures()[0]
    tiny_artefact.relist(out)
    assert "layers.json tells nothing of part 'head'" in proved(out).failures()[0]


def test_a_cache_that_is_copied_is_caught_by_l5(out: Path) -> None:
    entry = read_manifest(out).variant(ENGINE)
    copied = replace(entry.graph("head"), aliases={})
    faults.change_variant(out, ENGINE, replace(entry, graphs={**entry.graphs, "head": copied}))
    report = proved(out)
    assert states(report) == {"L0": "passed", "L1": "not run", "L5": "failed"}
    assert "caches that are not updated in place" in report.failures()[0]


def test_a_stale_suffix_is_caught_by_l5_of_the_graphs(out: Path) -> None:
    assert states(proved(out, GRAPHS, "L5")) == {"L5": "passed"}
    faults.stale_suffix(out, variant=GRAPHS)
    report = proved(out, GRAPHS, "L5")
    assert states(report) == {"L5": "failed"}
    assert "a poisoned cache" in report.failures()[0]


def test_an_engine_for_another_gpu_is_not_run_and_can_be_built_for_this(
    out: Path, here: list[Gpu]
) -> None:
    assert proved(out).level("L1").reason == "built for sm86, and here is sm89"
    (wanted,) = plan_builds(read_manifest(out), variants=[ENGINE], sm=())
    assert (wanted.name, wanted.target.sm) == ("rtx-fp16-sm89", (89,))


@pytest.mark.parametrize("gone", ["head.engine", "layers.json"])
def test_an_absent_file_is_caught_by_l0(gone: str, out: Path) -> None:
    home = (out / read_manifest(out).variant(ENGINE).graph("head").file).parent
    (home / gone).unlink()
    assert f"{gone} is missing" in proved(out).failures()[0]


def test_an_engine_from_elsewhere_is_refused(out: Path, tmp_path: Path) -> None:
    manifest = read_manifest(out)
    entry = manifest.variant(ENGINE)
    shutil.copy(out / entry.graph("head").file, tmp_path / "head.engine")
    head = replace(entry.graph("head"), file="../head.engine")
    files = {**manifest.files, head.file: manifest.file(entry.graph("head").file)}
    moved = replace(entry, graphs={**entry.graphs, "head": head})
    write_manifest(
        replace(manifest, files=files, variants={**manifest.variants, ENGINE: moved}), out
    )
    assert "would lie outside" in proved(out).failures()[0]
    with pytest.raises(ModelError, match=r"would lie outside|runs those of"):
        check_artefact(out, variant=ENGINE)
