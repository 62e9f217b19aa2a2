"""What TensorRT's importer does not take, or would ignore, is found in the graph's file."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from tests.export.graphs_for_engines import build
from vlv_core.parts import ExportPart
from vlv_export.lowering._lint import lint
from vlv_export.manifest import GraphEntry

Tiny = tuple[dict[str, ExportPart], dict[str, Path]]
Built = tuple[Path, dict[str, GraphEntry]]
Spoil = Callable[[ir.Model], None]


@pytest.fixture(scope="module")
def built(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("sound")
    return folder, build(tiny[1], folder, "bf16")


def told(built: Built, part: str, folder: Path, spoil: Spoil) -> list[str]:
    """Faults of the part's graph once it is spoilt."""
    entry = built[1][part]
    for name in (entry.file, *entry.data):
        shutil.copy(built[0] / name, folder / name)
    model = ir.load(folder / entry.file)
    spoil(model)
    ir.save(model, folder / entry.file)
    return lint(folder / entry.file, part, entry, "bf16")


def node_of(model: ir.Model, op: str) -> ir.Node:
    return next(node for node in model.graph if node.op_type == op)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_every_part_is_sound(tiny: Tiny, tmp_path: Path, dtype: str) -> None:
    for part, entry in build(tiny[1], tmp_path, dtype, 24, 16).items():
        assert lint(tmp_path / entry.file, part, entry, dtype) == []


@pytest.mark.parametrize(
    ("op", "attribute", "fault"),
    [
        ("Attention", ir.AttrFloat32("softcap", 5.0), "does not take the attribute 'softcap'"),
        ("Attention", ir.AttrInt64("softmax_precision", 1), "attribute 'softmax_precision'"),
        ("Attention", ir.AttrInt64("qk_matmul_output_mode", 1), "'qk_matmul_output_mode'"),
        ("Attention", ir.AttrInt64("is_causal", 1), "is_causal stands beside a mask or a cache"),
        ("Attention", ir.AttrFloat32("scale", 0.125), "the root of scale, which is not exact"),
        ("TensorScatter", ir.AttrString("mode", "circular"), "mode is 'circular'"),
        ("TensorScatter", ir.AttrInt64("axis", 1), "is written along axis 1, not 2"),
    ],
)
def test_attributes(built: Built, tmp_path: Path, op: str, attribute: ir.Attr, fault: str) -> None:
    def spoil(model: ir.Model) -> None:
        node_of(model, op).attributes[attribute.name] = attribute

    assert any(fault in each for each in told(built, "head", tmp_path, spoil))


def test_a_missing_mask(built: Built, tmp_path: Path) -> None:
    def spoil(model: ir.Model) -> None:
        node_of(model, "Attention").resize_inputs(3)

    [fault] = told(built, "head", tmp_path, spoil)
    assert fault.endswith("nothing hides what is beyond the used cache")


def test_an_infinite_mask(built: Built, tmp_path: Path) -> None:
    def spoil(model: ir.Model) -> None:
        for value in model.graph.initializers.values():
            array = value.const_value.numpy() if value.const_value is not None else np.zeros(0)
            if array.size == 1 and array.astype(np.float64).min() < -1e29:
                value.const_value = ir.tensor(np.array(-np.inf, np.float32))

    faults = told(built, "head", tmp_path, spoil)
    assert faults and all("its mask may hold infinity" in fault for fault in faults)


def test_a_second_output(built: Built, tmp_path: Path) -> None:
    def spoil(model: ir.Model) -> None:
        node_of(model, "Attention").resize_outputs(2)
        node_of(model, "Attention").outputs[1].name = "present_key"

    assert any(
        "TensorRT answers one output" in each for each in told(built, "head", tmp_path, spoil)
    )


def test_operators_that_it_does_not_take(built: Built, tmp_path: Path) -> None:
    def spoil(model: ir.Model) -> None:
        node_of(model, "Sigmoid").op_type = "Hardmax"

    [fault] = told(built, "head", tmp_path, spoil)
    assert fault == "part 'head': operator Hardmax is not one that engines may use"


def test_a_cache_of_any_length(built: Built, tmp_path: Path) -> None:
    def spoil(model: ir.Model) -> None:
        for value in (*model.graph.inputs, *model.graph.outputs):
            if value.name in ("past.0.key", "present.0.key"):
                assert value.shape is not None
                value.shape = ir.Shape([*value.shape[:2], "capacity", value.shape[3]])

    faults = told(built, "head", tmp_path, spoil)
    assert any("cache 'past.0.key' is" in each and "must be a number" in each for each in faults)


def test_a_cache_that_is_not_written_in_place(built: Built, tmp_path: Path) -> None:
    def spoil(model: ir.Model) -> None:
        first, second = [node for node in model.graph if node.op_type == "TensorScatter"][:2]
        for node, past in ((first, "past.0.value"), (second, "past.0.key")):
            given = next(each for each in model.graph.inputs if each.name == past)
            node.replace_input_with(0, given)

    faults = told(built, "head", tmp_path, spoil)
    assert any("is not written in place into 'present.0.key'" in fault for fault in faults)


def test_a_fixed_batch(built: Built, tmp_path: Path) -> None:
    def spoil(model: ir.Model) -> None:
        shape = model.graph.inputs[0].shape
        assert shape is not None
        model.graph.inputs[0].shape = ir.Shape([8, *shape[1:]])

    faults = told(built, "encoder", tmp_path, spoil)
    assert any("its first axis must be the batch's" in fault for fault in faults)


def test_bytes_that_are_moved(built: Built, tmp_path: Path) -> None:
    def spoil(model: ir.Model) -> None:
        cast = next(node for node, _ in model.graph.inputs[0].uses() if node.op_type == "Cast")
        cast.op_type = "Transpose"
        cast.attributes.clear()

    faults = told(built, "encoder", tmp_path, spoil)
    assert any("reads bytes, of which TensorRT takes Cast" in fault for fault in faults)


def test_low_deconvolutions(built: Built, tmp_path: Path) -> None:
    def spoil(model: ir.Model) -> None:
        node_of(model, "ConvTranspose").outputs[0].type = ir.TensorType(ir.DataType.BFLOAT16)

    faults = told(built, "vae_decoder", tmp_path, spoil)
    assert any("TensorRT has no kernel for it but in float32" in fault for fault in faults)


def test_an_older_contract_is_held_to_the_portable_rules(built: Built) -> None:
    entry = replace(built[1]["head"], opset=22)
    faults = lint(built[0] / entry.file, "head", entry, "bf16")
    assert any("opset is 24; the contract says 22" in fault for fault in faults)
