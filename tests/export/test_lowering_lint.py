"""Level L0 of a graph: each fault is found and told."""

import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from vlv_core.parts import ExportPart
from vlv_export.lowering._lint import lint
from vlv_export.lowering._variant import DTYPES, build_variant
from vlv_export.manifest import GraphEntry

Tiny = tuple[dict[str, ExportPart], dict[str, Path]]


@pytest.fixture(scope="module")
def built(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GraphEntry]:
    folder = tmp_path_factory.mktemp("sound")
    return folder, build_variant({"head": tiny[1]["head"]}, folder, dtype="fp32")["head"]


@pytest.fixture
def head(built: tuple[Path, GraphEntry], tmp_path: Path) -> tuple[Path, GraphEntry]:
    """A copy of the head's graph, to be spoilt."""
    shutil.copytree(built[0], tmp_path / "copy")
    return tmp_path / "copy" / "head.onnx", built[1]


def told(path: Path, entry: GraphEntry, dtype: str = "fp32") -> str:
    faults = lint(path, "head", entry, dtype)
    assert len(faults) == 1, faults
    return faults[0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_variant_of_every_part_is_sound(tiny: Tiny, tmp_path: Path, dtype: str) -> None:
    entries = build_variant(tiny[1], tmp_path, dtype=dtype)
    assert {
        part: lint(tmp_path / each.file, part, each, dtype) for part, each in entries.items()
    } == {part: [] for part in entries}


def test_a_damaged_file(head: tuple[Path, GraphEntry]) -> None:
    head[0].write_bytes(head[0].read_bytes()[:100])
    assert told(*head).startswith("part 'head': head.onnx cannot be read: ")


def test_a_missing_file(head: tuple[Path, GraphEntry]) -> None:
    head[0].unlink()
    assert "head.onnx cannot be read" in told(*head)


def test_a_baked_axis(head: tuple[Path, GraphEntry]) -> None:
    model = ir.load(head[0])
    model.graph.inputs[1].shape = ir.Shape([2, "length"])
    ir.save(model, head[0])
    assert told(*head) == "part 'head': axis 'batch' of input 'tokens' is baked in: (2, length)"


def test_another_width(head: tuple[Path, GraphEntry]) -> None:
    prefix, *rest = head[1].inputs
    entry = replace(head[1], inputs=(replace(prefix, shape=("batch", "prefix", 17)), *rest))
    assert told(head[0], entry) == (
        "part 'head': input 'prefix' is (batch, prefix, 16); the contract says (batch, prefix, 17)"
    )


def test_another_element_type(head: tuple[Path, GraphEntry]) -> None:
    first, *rest = head[1].outputs
    entry = replace(head[1], outputs=(replace(first, dtype="float16"), *rest))
    assert told(head[0], entry) == (
        "part 'head': output 'top_log_probs' is float32; the contract says float16"
    )


def test_other_names(head: tuple[Path, GraphEntry]) -> None:
    entry = replace(head[1], outputs=head[1].outputs[1:])
    assert "outputs are top_log_probs, top_ids, logits" in told(head[0], entry)


def test_operators_of_other_domains(head: tuple[Path, GraphEntry]) -> None:
    model = onnx.load(head[0], load_external_data=False)
    model.graph.node[-1].domain = "com.microsoft"
    onnx.save(model, head[0])
    operator = model.graph.node[-1].op_type
    for dtype in ("fp32", "int4"):
        assert told(*head, dtype) == (
            f"part 'head': operator com.microsoft.{operator} is not one that {dtype} graphs may use"
        )


def test_fused_operators_are_not_portable(tiny: Tiny, tmp_path: Path) -> None:
    entry = build_variant({"head": tiny[1]["head"]}, tmp_path, dtype="int8")["head"]
    faults = lint(tmp_path / entry.file, "head", entry, "fp32")
    assert any("com.microsoft.MatMulNBits is not one that fp32" in fault for fault in faults)


def test_a_newer_opset(head: tuple[Path, GraphEntry]) -> None:
    model = ir.load(head[0])
    model.graph.opset_imports[""] = 23
    ir.save(model, head[0])
    assert told(*head) == "part 'head': opset is 23; the contract says 20"
    assert "fp32 graphs have 20 at most" in told(head[0], replace(head[1], opset=23))


def test_missing_weights(head: tuple[Path, GraphEntry]) -> None:
    (head[0].parent / "head.data").unlink()
    assert told(*head) == "part 'head': weights' file 'head.data' is missing"


def test_weights_cut_off(head: tuple[Path, GraphEntry]) -> None:
    data = head[0].parent / "head.data"
    data.write_bytes(data.read_bytes()[:50])
    assert "weights' file 'head.data' ends at 50, before" in told(*head)


def test_weights_that_the_contract_does_not_list(head: tuple[Path, GraphEntry]) -> None:
    fault = told(head[0], replace(head[1], data=()))
    assert fault == "part 'head': weights are in 'head.data', which the contract does not list"


@pytest.mark.parametrize("location", ["../head.data", "/etc/passwd", "sub/head.data", ".."])
def test_weights_elsewhere(head: tuple[Path, GraphEntry], location: str) -> None:
    model = onnx.load(head[0], load_external_data=False)
    for tensor in model.graph.initializer:
        for each in tensor.external_data:
            if each.key == "location":
                each.value = location
    onnx.save(model, head[0])
    assert "which is not beside the graph" in told(*head)


def test_a_graph_that_onnx_refuses(head: tuple[Path, GraphEntry]) -> None:
    model = onnx.load(head[0], load_external_data=False)
    product = next(node for node in model.graph.node if node.op_type == "MatMul")
    del product.input[1:]
    onnx.save(model, head[0])
    assert told(*head).startswith("part 'head': onnx refuses the graph: ")
