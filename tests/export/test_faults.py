"""The eight seeded faults: each is caught, by a named level; the clean artefact passes all."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from tests.export import faults, tiny_artefact, tiny_golden
from tests.export.conftest import Tiny
from vlv_core.captioner import Captioner
from vlv_core.model import VLV
from vlv_core.model_parts import export_parts
from vlv_core.parts import ExportPart
from vlv_core.torch_backend import TorchBackend
from vlv_export._capture import capture
from vlv_export.lowering._variant import build_variant
from vlv_export.manifest import GraphEntry
from vlv_export.parity import Report, check
from vlv_export.runtime.head import HeadStepper
from vlv_plugins.mini._tokenizer import bundled_tokenizer

ALL = ("L0", "L1", "L2", "L3", "L4", "L5", "L6")


@pytest.fixture
def out(proven: Path, tmp_path: Path) -> Path:
    """An artefact to spoil."""
    return Path(shutil.copytree(proven, tmp_path / "OUT"))


def states(report: Report) -> dict[str, str]:
    return {level.level: level.state for level in report.levels}


def offending(report: Report, level: str) -> set[tuple[str, str]]:
    """Part and output of the checks that failed."""
    return {(each.part, each.output) for each in report.level(level).failures()}


@pytest.mark.parametrize("variant", ["onnx-fp32", "onnx-fp16"])
def test_the_clean_artefact_passes_every_level(proven: Path, variant: str) -> None:
    report = check(proven, variant, ALL)
    assert states(report) == {
        **dict.fromkeys(ALL, "passed"),
        "L4": "not applicable",
    }, report.failures()
    assert report.verdict == "passed"


def test_wrong_image_size_is_caught_by_l1(out: Path) -> None:
    faults.wrong_image_size(out)
    report = check(out, "onnx-fp32", ["L0", "L1"])
    assert states(report) == {"L0": "passed", "L1": "failed"}
    assert ("preprocess", "view") in offending(report, "L1")


def test_another_models_tokenizer_is_caught_by_l1(out: Path) -> None:
    faults.another_tokenizer(out, bundled_tokenizer().to_str())
    report = check(out, "onnx-fp32", ["L0", "L1"])
    assert states(report) == {"L0": "passed", "L1": "failed"}
    assert offending(report, "L1") == {("tokenizer", "words")}


def test_a_tokenizer_that_does_not_match_its_hash_is_caught_by_l0(out: Path) -> None:
    (out / "tokenizer.json").write_text(bundled_tokenizer().to_str())
    report = check(out, "onnx-fp32", ["L0", "L1"])
    assert states(report) == {"L0": "failed", "L1": "not run"}
    assert "tokenizer.json" in report.failures()[0]


def test_stale_external_data_is_caught_by_l0(out: Path) -> None:
    faults.stale_external_data(out)
    report = check(out, "onnx-fp32", ["L0", "L1"])
    assert states(report) == {"L0": "failed", "L1": "not run"}
    assert "was changed since it was exported" in report.failures()[0]


def test_stale_external_data_with_a_forged_hash_is_caught_by_l1(out: Path) -> None:
    faults.stale_external_data(out)
    tiny_artefact.relist(out)
    report = check(out, "onnx-fp32", ["L0", "L1"])
    assert states(report) == {"L0": "passed", "L1": "failed"}


def test_a_float32_engine_sold_as_fp16_is_caught_by_l0(out: Path) -> None:
    faults.sold_as_fp16(out)
    report = check(out, "onnx-fp16", ["L0", "L1"])
    # Its numbers are better than fp16's may be: precision alone gives it away.
    assert states(report) == {"L0": "failed", "L1": "passed"}
    assert ("head", "weights") in offending(report, "L0")
    assert "float32 100%" in report.failures()[0]


def test_an_off_by_one_position_is_caught_by_l1(out: Path) -> None:
    faults.off_by_one(out)
    report = check(out, "onnx-fp32", ["L0", "L1"])
    assert states(report) == {"L0": "passed", "L1": "failed"}
    assert offending(report, "L1") == {("head", "log_probs")}


def test_a_stale_cache_suffix_is_caught_by_l5(out: Path) -> None:
    faults.stale_suffix(out)
    report = check(out, "onnx-fp32", ["L0", "L5"])
    assert states(report) == {"L0": "passed", "L5": "failed"}
    assert "a poisoned cache" in report.failures()[0]


def test_transposed_beams_are_caught_by_l3(proven: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt = faults.transposed_beams(HeadStepper.select, beams=4)
    monkeypatch.setattr(HeadStepper, "select", spoilt)
    report = check(proven, "onnx-fp32", ["L1", "L3"])
    assert states(report) == {"L1": "passed", "L3": "failed"}
    assert offending(report, "L3") == {("captions", "beam-4")}


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""of ImageNet"""


class Normalised(nn.Module):
    """The tiny encoder on pixels of another mean and deviation."""

    def __init__(self, inner: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.inner, self.mean, self.std = inner, torch.tensor(mean), torch.tensor(std)
        self.pixels, self.num_tokens, self.dim = inner.pixels, inner.num_tokens, inner.dim

    def forward(self, view: Tensor) -> Tensor:
        pixels = (view.float() / 255 - self.mean) / self.std
        return self.inner(pixels * 127.5 + 127.5)


def with_normalised(model: VLV, mean: tuple[float, ...], std: tuple[float, ...]) -> VLV:
    others = {name: module for name, module in model.parts() if name != "encoder"}
    return VLV(view=model.view, encoder=Normalised(model.encoder, mean, std), **others).eval()


@pytest.fixture(scope="module")
def normalised(
    tiny: Tiny, captioner: Captioner, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, GraphEntry]:
    """An artefact whose encoder has a mean and a deviation of its own; then its encoder's files
    and entry as they are if the two are swapped."""
    folder, backend = tmp_path_factory.mktemp("normalised"), captioner.backend
    model = with_normalised(backend.model, MEAN, STD)  # type: ignore[attr-defined]
    own = Captioner(TorchBackend(model), name="normalised", domain="", view=model.view)
    parts = export_parts(model, reconstruct=False)
    neutral = {"encoder": write(parts[0], folder), "head": tiny[1]["head"]}
    out = tiny_artefact.make(own, neutral, folder / "OUT")
    tiny_golden.write(own, parts, out, random_weights=True)
    tiny_artefact.relist(out)
    wrong = with_normalised(backend.model, STD, MEAN)  # type: ignore[attr-defined]
    swapped = {"encoder": write(export_parts(wrong, reconstruct=False)[0], folder / "swapped")}
    return out, folder / "built", build_variant(swapped, folder / "built", dtype="fp32")["encoder"]


def write(part: ExportPart, folder: Path) -> Path:
    """The part's neutral graph."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{part.name}.onnx"
    ir.save(capture(part), path, external_data=f"{part.name}.data", size_threshold_bytes=0)
    return path


def test_swapped_mean_and_deviation_are_caught_by_l1(
    normalised: tuple[Path, Path, GraphEntry], tmp_path: Path
) -> None:
    clean, files, entry = normalised
    levels = ["L0", "L1", "L2", "L3"]
    report = check(clean, "onnx-fp32", levels)
    judged = dict.fromkeys(["L0", "L1", "L2"], "passed")
    assert states(report) == {**judged, "L3": "not applicable"}, report.failures()
    out = Path(shutil.copytree(clean, tmp_path / "OUT"))
    faults.other_graph(out, "encoder", files, entry)
    report = check(out, "onnx-fp32", ["L0", "L1"])
    assert states(report) == {"L0": "passed", "L1": "failed"}
    assert {("pictures", "z"), ("encoder", "z")} <= offending(report, "L1")


@pytest.mark.parametrize("spoil", [faults.off_by_one, faults.wrong_image_size])
def test_a_fresh_process_catches_them_too(spoil: Callable[[Path], None], out: Path) -> None:
    spoil(out)
    report = check(out, "onnx-fp32", ["L6"])
    assert states(report) == {"L6": "failed"}
