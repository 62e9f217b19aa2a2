"""The exporter `--onnx`: what it plans, and what its variants ask of a runtime."""

from importlib.metadata import version
from pathlib import Path

import onnx_ir as ir
import pytest

from vlv_core.errors import ModelError
from vlv_core.parts import ExportPart
from vlv_export import preflight
from vlv_export._onnx import ABOUT, LEAST_RUNTIME, OnnxExporter
from vlv_export.exporters import Job, Planned, Request, Weights
from vlv_export.manifest import VariantEntry

Tiny = tuple[dict[str, ExportPart], dict[str, Path]]


def planned(dtypes: tuple[str, ...], *, matrices: int = 0, rest: int = 0) -> dict[str, Planned]:
    weights = Weights(matrices, rest)
    request = Request(model="m", dtypes=dtypes, parts=("encoder", "head"), weights=weights)
    return {each.dtype: each for each in OnnxExporter().plan(request)}


def build(tiny: Tiny, folder: Path, dtype: str) -> VariantEntry:
    """The head alone."""
    job = Job(
        planned=planned((dtype,))[dtype],
        graphs={"head": tiny[1]["head"]},
        parts={"head": tiny[0]["head"]},
        assets=folder,
        folder=folder,
        tell=lambda text: None,
    )
    return OnnxExporter().build(job)


def test_plans_name_each_dtype_and_its_size() -> None:
    found = planned(tuple(ABOUT), matrices=8_000_000_000, rest=1_000_000_000)
    assert [each.name for each in found.values()] == [f"onnx-{dtype}" for dtype in ABOUT]
    gigabytes = {dtype: round(each.bytes / 1e9) for dtype, each in found.items()}
    assert gigabytes == {"fp32": 36, "fp16": 18, "bf16": 18, "int8": 13, "int4": 9}
    assert {dtype for dtype, each in found.items() if each.not_run} == {"bf16"}


def test_every_dtype_says_the_least_runtime() -> None:
    assert set(LEAST_RUNTIME) == set(ABOUT)


@pytest.mark.parametrize(("dtype", "least"), [("fp32", "1.20"), ("int8", "1.23"), ("int4", "1.23")])
def test_what_standard_operators_do_not_say_needs_a_newer_runtime(
    dtype: str, least: str, tiny: Tiny, tmp_path: Path
) -> None:
    entry = build(tiny, tmp_path, dtype)
    domains = set(ir.load(tmp_path / entry.graph("head").file).opset_imports)
    assert domains == ({""} if dtype == "fp32" else {"", "com.microsoft"})
    assert entry.graph("head").opset <= 20, "what onnxruntime 1.17 and later run"
    assert entry.compat == {"onnxruntime": least}


def test_an_older_runtime_is_refused_with_the_line_that_mends_it(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = build(tiny, tmp_path, "int8")
    monkeypatch.setattr(preflight, "version", lambda name: "1.22.1")
    with pytest.raises(ModelError, match=r"needs onnxruntime 1\.23, and 1\.22\.1 is") as told:
        preflight._check_runtime(entry)
    assert told.value.hint == "pip install 'onnxruntime>=1.23'"
    monkeypatch.setattr(preflight, "version", version)
    preflight._check_runtime(entry)
