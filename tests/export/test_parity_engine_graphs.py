"""The levels on graphs for engines: float32 and float16 run, bfloat16 is simulated; faults."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.export import engine_graphs, faults, tiny_artefact
from tests.export.conftest import Tiny
from vlv_core.captioner import Captioner
from vlv_core.errors import ConfigError, ModelError, VlvError
from vlv_export import _yardstick
from vlv_export.golden import GOLDEN, read_golden
from vlv_export.manifest import read_manifest
from vlv_export.parity import LEVELS, Report, check
from vlv_export.parity.parts import cases_of, head_parts
from vlv_export.parity.simulated import SIMULATED, SimulatedSessions
from vlv_export.parity.target import Target
from vlv_export.parity.thresholds import LIMITS
from vlv_export.yardstick import FLOOR, YARDSTICK, Yardstick, read_yardstick


def states(report: Report) -> dict[str, str]:
    return {level.level: level.state for level in report.levels}


@pytest.fixture
def out(compiled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(compiled, tmp_path / "OUT"))


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_every_level_holds(dtype: str, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlv_export.parity.engine.STEPS", 200)
    report = check(compiled, f"onnx24-{dtype}")
    assert states(report) == {
        **dict.fromkeys(LEVELS, "passed"),
        "L4": "not applicable",
    }, report.failures()
    parts = {each.part for each in report.level("L1").checks}
    assert {"head", "head.16"} <= parts, "each capacity is a graph of its own"
    assert {each.part for each in report.level("L5").checks} >= {"head", "head.16"}
    told = [SIMULATED in level.notes for level in report.levels]
    assert told == [dtype == "bf16" and level != "L0" for level in LEVELS]


def test_a_cache_shorter_than_the_golden_captions_is_judged_by_what_it_holds(
    proven: Path, tiny: Tiny, tmp_path: Path
) -> None:
    out = tiny_artefact.copy(proven, tmp_path)
    engine_graphs.add(out, tiny[1], dtypes=["fp32"], capacities=[9])
    report = check(out, "onnx24-fp32", ["L1", "L2", "L3", "L5"])
    assert report.verdict == "passed", report.failures()
    assert "captions of at most 5 tokens, which the cache holds" in report.level("L3").notes


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_a_stale_suffix_is_caught_by_l5(dtype: str, out: Path) -> None:
    faults.stale_suffix(out, variant=f"onnx24-{dtype}")
    report = check(out, f"onnx24-{dtype}", ["L0", "L5"])
    assert states(report) == {"L0": "passed", "L5": "failed"}
    assert "a poisoned cache" in report.failures()[0]


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_an_off_by_one_position_is_caught_by_l1(dtype: str, out: Path) -> None:
    faults.off_by_one(out, variant=f"onnx24-{dtype}")
    report = check(out, f"onnx24-{dtype}", ["L0", "L1"])
    assert states(report) == {"L0": "passed", "L1": "failed"}
    assert {each.part for each in report.level("L1").failures()} == {"head"}


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_swapped_caches_are_caught_by_l0_and_l1(dtype: str, out: Path) -> None:
    faults.swapped_caches(out, variant=f"onnx24-{dtype}")
    report = check(out, f"onnx24-{dtype}", ["L0", "L1"])
    assert states(report) == {"L0": "failed", "L1": "failed"}
    assert {each.part for each in report.level("L0").failures()} == {"head"}
    assert {each.part for each in report.level("L1").failures()} == {"head"}


def test_without_what_simulates_bfloat16_it_is_not_run(
    compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlv_export.parity.proof.find_spec", lambda name: None)
    level = check(compiled, "onnx24-bf16", ["L1"]).level("L1")
    assert level.state == "not run"
    assert level.reason == "no CPU kernels; to simulate them: pip install 'vlv[onnx]'"


def test_portable_bfloat16_is_not_simulated(compiled: Path) -> None:
    assert check(compiled, "onnx-bf16", ["L1"]).level("L1").reason == "no CPU kernels"


def test_a_simulation_leaves_the_artefact_as_it_was(compiled: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in compiled.rglob("*")}
    sessions = SimulatedSessions(compiled, read_manifest(compiled), "onnx24-bf16", 1)
    kinds = {each.dtype for each in sessions.graph("head").inputs}
    assert kinds == {"float32", "int64"}
    z = np.zeros((1, 4, 16), np.float32)
    found = sessions.run("condition", {"z": z})["prefix"]
    # Rounded to the 8 bits of bfloat16: the rest of a float32 is zero.
    assert found.dtype == np.float32 and not (found.view(np.uint32) & 0xFFFF).any()
    assert {path: path.stat().st_mtime_ns for path in compiled.rglob("*")} == before


def test_a_head_is_run_on_the_cases_that_it_can_hold(compiled: Path) -> None:
    golden = read_golden(compiled / GOLDEN)
    target = Target(compiled, read_manifest(compiled), "onnx24-fp32", golden)
    assert head_parts(target) == ["head", "head.16"]
    assert len(cases_of(target, "head")) == len(golden.of("head"))
    entry = target.entry
    tight = {name: replace(each, inputs=tuple(
        replace(tensor, shape=(*tensor.shape[:2], 9, tensor.shape[3]))
        if tensor.name.startswith("past.") else tensor for tensor in each.inputs))
        for name, each in entry.graphs.items() if name == "head.16"}  # fmt: skip
    entry.graphs.update(tight)
    lengths = [
        case.inputs["prefix"].shape[1] + case.inputs["tokens"].shape[1]
        for case in cases_of(target, "head.16")
    ]
    assert lengths and max(lengths) <= 9


def test_bfloat16_is_judged_by_the_eager_models_own_rounding(compiled: Path) -> None:
    checks = check(compiled, "onnx24-bf16", ["L1"]).level("L1").checks
    figure = "relative L2 in multiples of eager bf16's"
    found = {(each.part, each.output): each for each in checks if each.figure == figure}
    assert {part for part, _ in found} == {
        "encoder", "head", "head.16", "condition", "text", "denoiser", "vae_decoder",
    }  # fmt: skip
    assert all(each.most == LIMITS["bf16"].yardstick for each in found.values())
    assert 0.3 < np.median([each.value for each in found.values()]) < 1.5


def test_worse_rounding_than_the_models_own_fails(out: Path) -> None:
    path = out / YARDSTICK
    data = json.loads(path.read_text())
    data["errors"]["bf16"]["encoder"]["z"] /= 4
    path.write_text(json.dumps(data))
    tiny_artefact.relist(out)
    report = check(out, "onnx24-bf16", ["L1"])
    (failed,) = report.level("L1").failures()
    assert (failed.part, failed.output) == ("encoder", "z")
    assert "multiples of eager bf16's" in report.failures()[0]


def test_an_artefact_without_a_yardstick_is_judged_by_the_rest(out: Path) -> None:
    (out / YARDSTICK).unlink()
    tiny_artefact.relist(out)
    report = check(out, "onnx24-bf16", ["L1"])
    assert report.verdict == "passed"
    assert not any("multiples" in each.figure for each in report.level("L1").checks)


def test_a_yardstick_says_what_was_measured_and_no_less_than_one_rounding(compiled: Path) -> None:
    read = read_yardstick(compiled / YARDSTICK)
    error = read.error("bf16", "encoder", "prefix")
    assert error is not None and 1e-3 < error < 0.1
    assert read.error("bf16", "encoder", "nothing") is None
    assert read.error("fp16", "encoder", "prefix") is None
    assert Yardstick(errors={"bf16": {"a": {"b": 0.0}}}).error("bf16", "a", "b") == FLOOR


@pytest.mark.parametrize(
    "text, kind, said",
    [
        ("{", ModelError, "cannot be read"),
        ("[]", ConfigError, "no yardstick of schema 'vlv-yardstick/1'"),
        ('{"schema": "vlv-yardstick/0"}', ConfigError, "no yardstick of schema"),
        ('{"schema": "vlv-yardstick/1", "errors": 3}', ConfigError, "errors"),
    ],
)
def test_a_damaged_yardstick_is_told(
    text: str, kind: type[Exception], said: str, tmp_path: Path
) -> None:
    path = tmp_path / YARDSTICK
    path.write_text(text)
    with pytest.raises(kind, match=said):
        read_yardstick(path)


def test_a_model_that_overflows_in_bfloat16_has_no_yardstick(
    compiled: Path, captioner: Captioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = read_golden(compiled / GOLDEN)
    case = golden.of("vae_decoder")[0]
    nothing = {"pictures": np.full_like(case.outputs["pictures"], np.nan)}
    monkeypatch.setattr(_yardstick, "_answers", lambda *given: nothing)

    class Still:
        """A model that stays as it is."""

        diffusion = None

        def to(self, dtype: object) -> None: ...

    monkeypatch.setattr(_yardstick, "_parts", lambda model: {"vae_decoder": None})
    with pytest.raises(VlvError, match="in bfloat16 answers no numbers in 'pictures'"):
        _yardstick.write_yardstick(Still(), replace(golden, cases=(case,)), tmp_path / "y.json")  # type: ignore[arg-type]
