"""Whole parts of a tiny model through `build_variant`, against torch."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from tests.export.lowering_graphs import eager, rel_l2, run
from vlv_core.errors import UsageError
from vlv_core.parts import ExportPart
from vlv_export.lowering._variant import build_variant
from vlv_export.manifest import GraphEntry

Tiny = tuple[dict[str, ExportPart], dict[str, Path]]
Built = tuple[Path, dict[str, GraphEntry]]
PARTS = ("encoder", "head", "condition", "text", "denoiser", "vae_decoder")


@pytest.fixture(scope="module")
def built(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("fp32")
    return folder, build_variant(tiny[1], folder, dtype="fp32")


def head_inputs(
    part: ExportPart, *, rows: int, prefix: int, length: int, position: int
) -> dict[str, NDArray[Any]]:
    sizes = {"batch": rows, "prefix": prefix, "length": length, "capacity": 20}
    inputs = part.example(sizes, seed=rows)
    return {**inputs, "position": np.full(rows, position)}


def largest_error(folder: Path, entry: GraphEntry, part: ExportPart, inputs: Any) -> float:
    extra = {"k": np.array([3])} if part.name == "head" else {}
    found, wanted = run(folder / entry.file, {**inputs, **extra}), eager(part, inputs)
    return max(rel_l2(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
@pytest.mark.parametrize("name", [each for each in PARTS if each != "head"])
def test_parts_equal_torch(tiny: Tiny, built: Built, name: str, rows: int) -> None:
    part = tiny[0][name]
    sizes = {
        axis: rows if axis == "batch" else limits.typical for axis, limits in part.axes.items()
    }
    inputs = part.example(sizes, seed=rows)
    assert largest_error(built[0], built[1][name], part, inputs) <= 1e-5


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
@pytest.mark.parametrize(
    ("prefix", "length", "position"), [(4, 0, 0), (0, 1, 7), (3, 2, 0), (0, 5, 3)]
)
def test_head_equals_torch(
    tiny: Tiny, built: Built, rows: int, prefix: int, length: int, position: int
) -> None:
    part = tiny[0]["head"]
    inputs = head_inputs(part, rows=rows, prefix=prefix, length=length, position=position)
    assert largest_error(built[0], built[1]["head"], part, inputs) <= 1e-5


@pytest.mark.parametrize("k", [1, 5])
def test_top_tokens_are_those_of_the_logits(tiny: Tiny, built: Built, k: int) -> None:
    inputs = head_inputs(tiny[0]["head"], rows=3, prefix=4, length=0, position=0)
    found = run(built[0] / "head.onnx", {**inputs, "k": np.array([k])})
    logits = found["logits"].astype(np.float64)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(found["top_ids"], order)
    chances = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
    wanted = np.take_along_axis(chances - logits.max(1, keepdims=True), order, axis=1)
    np.testing.assert_allclose(found["top_log_probs"], wanted, atol=1e-6)


def test_entries_tell_names_types_and_shapes(built: Built) -> None:
    entry = built[1]["head"]
    named = {each.name: (each.dtype, each.shape) for each in (*entry.inputs, *entry.outputs)}
    assert [each.name for each in entry.inputs][:4] == ["prefix", "tokens", "position", "k"]
    assert [each.name for each in entry.outputs][:3] == ["top_log_probs", "top_ids", "logits"]
    assert named["tokens"] == ("int64", ("batch", "length"))
    assert named["past.0.key"] == named["present.0.key"] == ("float32", ("batch", 2, "capacity", 8))
    assert named["top_ids"] == ("int64", ("batch", "k"))
    assert entry.aliases == {
        f"past.0.{kind}": f"present.0.{kind}" for kind in ("key", "value")
    } and (entry.shared_cache, entry.opset) == (True, 20)


def test_weights_are_stored_once(tiny: Tiny, built: Built) -> None:
    """The text encoder is in three parts, the table of the head in two places."""
    distinct = {
        parameter.data_ptr(): parameter.numel() * 4
        for part in tiny[0].values()
        for parameter in part.module.parameters()
    }
    on_disk = sum(path.stat().st_size for path in built[0].glob("*.data"))
    assert on_disk <= 1.05 * sum(distinct.values())
    assert "encoder.data" in built[1]["condition"].data


def test_portable_graphs_hold_standard_operators_alone(built: Built) -> None:
    for path in built[0].glob("*.onnx"):
        model = ir.load(path)
        assert set(model.opset_imports) == {""}
        assert {node.domain for node in model.graph} == {""}


def test_unknown_dtypes_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no dtype 'fp8'; there are fp32, fp16, bf16, int8, int4"):
        build_variant(tiny[1], tmp_path, dtype="fp8")
