"""bfloat16 without a GPU: its simulation, and its likeness to the other forms."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray

from tests.export.graphs_for_engines import CAPACITY, build, session
from tests.export.lowering_graphs import graph_of, rel_l2, run, value
from vlv_core.parts import ExportPart
from vlv_export.lowering._cleanup import clean, finish
from vlv_export.lowering._differences import differences
from vlv_export.lowering._precision import lower_precision
from vlv_export.lowering._simulate import simulate

Tiny = tuple[dict[str, ExportPart], dict[str, Path]]
DTYPES = ("fp32", "fp16", "bf16")


@pytest.fixture(scope="module")
def folder(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All parts in all three forms."""
    made = tmp_path_factory.mktemp("forms")
    for dtype in DTYPES:
        build(tiny[1], made / dtype, dtype)
    return made


def chain() -> tuple[ir.Model, NDArray[np.float32], NDArray[np.float32]]:
    """tanh(x W / 3) W: two products and what stands between them."""
    weight = np.random.default_rng(1).standard_normal((8, 8)).astype(np.float32)
    third = np.array(1 / 3, np.float32)
    x, w, by = value("x", ("b", 8)), value("w", (8, 8)), value("by", ())
    w.const_value, by.const_value = ir.tensor(weight), ir.tensor(third)
    y, z, t, out = (value(name, ("b", 8)) for name in ("y", "z", "t", "out"))
    nodes = [
        ir.node("MatMul", [x, w], outputs=[y]),
        ir.node("Mul", [y, by], outputs=[z]),
        ir.node("Tanh", [z], outputs=[t]),
        ir.node("MatMul", [t, w], outputs=[out]),
    ]
    return graph_of([x], nodes, [out]), weight, third


def test_each_operation_is_rounded_as_torch_rounds_it(tmp_path: Path) -> None:
    model, weight, third = chain()
    clean(model)
    model.graph.opset_imports[""] = 24
    lower_precision(model, "part", "bf16")
    finish(model)
    ir.save(model, tmp_path / "low.onnx")
    simulate(tmp_path / "low.onnx", tmp_path / "simulated.onnx")
    x = np.random.default_rng(2).standard_normal((50, 8)).astype(np.float32)
    found = run(tmp_path / "simulated.onnx", {"x": x})["out"]
    low, scale = torch.from_numpy(weight).bfloat16(), torch.tensor(third).bfloat16()
    wanted = torch.tanh((torch.from_numpy(x).bfloat16() @ low) * scale) @ low
    np.testing.assert_array_equal(found, wanted.float().numpy())
    exact = np.tanh(x @ weight / 3) @ weight
    assert 1e-3 < rel_l2(found, exact) < 2e-2


def test_weights_are_neither_copied_nor_widened(folder: Path, tmp_path: Path) -> None:
    simulate(folder / "bf16" / "head.onnx", tmp_path / "head.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["head.onnx"]
    model = ir.load(tmp_path / "head.onnx")
    stored = [each.const_value for each in model.graph.initializers.values()]
    external = [each for each in stored if isinstance(each, ir.ExternalTensor)]
    assert {each.location for each in external} == {"head.data"}
    assert any(each.dtype == ir.DataType.BFLOAT16 for each in external)
    floats = {each.dtype for each in (*model.graph.inputs, *model.graph.outputs)}
    assert floats == {ir.DataType.FLOAT, ir.DataType.INT64}


@torch.no_grad()
@pytest.mark.parametrize("part", ["encoder", "text", "denoiser", "vae_decoder"])
def test_a_part_rounds_about_as_much_as_the_eager_model_in_bfloat16(
    tiny: Tiny, folder: Path, tmp_path: Path, part: str
) -> None:
    contract, path = tiny[0][part], tmp_path / f"{part}.onnx"
    simulate(folder / "bf16" / f"{part}.onnx", path)
    sizes = {name: min(axis.high, 5) for name, axis in contract.axes.items()} | {"batch": 3}
    example = contract.example(sizes, seed=3)
    given = [torch.from_numpy(each) for each in example.values()]
    due = [each.numpy() for each in contract.module(*given)]
    with torch.autocast("cpu", torch.bfloat16):
        eager = [each.float().numpy() for each in contract.module(*given)]
    names = [spec.name for spec in contract.outputs]
    found = session(path, weights=folder / "bf16").run(names, example)
    errors = [max(map(rel_l2, answers, due)) for answers in (found, eager)]
    assert 1e-4 < errors[0] < 3 * errors[1]


@pytest.mark.parametrize(
    "part", ["encoder", "head", "condition", "text", "denoiser", "vae_decoder"]
)
@pytest.mark.parametrize("other", ["fp16", "fp32"])
def test_the_forms_are_one_graph(folder: Path, part: str, other: str) -> None:
    low = folder / "bf16" / f"{part}.onnx"
    assert differences(low, folder / other / f"{part}.onnx") == []


Spoil = Callable[[ir.Graph], None]


def first(graph: ir.Graph, op: str) -> ir.Node:
    return next(node for node in graph if node.op_type == op)


def attribute(graph: ir.Graph) -> None:
    first(graph, "Attention").attributes["scale"] = ir.AttrFloat32("scale", 0.5)


def missing(graph: ir.Graph) -> None:
    node = first(graph, "Sigmoid")
    ir.convenience.replace_all_uses_with(node.outputs[0], node.inputs[0])  # type: ignore[arg-type]
    graph.remove(node, safe=True)


def operator(graph: ir.Graph) -> None:
    first(graph, "Sigmoid").op_type = "Tanh"


def rewired(graph: ir.Graph) -> None:
    query, key, new, *rest = first(graph, "Attention").inputs
    first(graph, "Attention").replace_input_with(1, new)
    assert query is not None and key is not None and rest


def swapped(graph: ir.Graph) -> None:
    writes = [node for node in graph if node.op_type == "TensorScatter"][:2]
    given = [node.inputs[1] for node in writes]
    for node, each in zip(writes, reversed(given), strict=True):
        node.replace_input_with(1, each)


def wider(graph: ir.Graph) -> None:
    first(graph, "MatMul").outputs[0].type = ir.TensorType(ir.DataType.FLOAT)


def constant(graph: ir.Graph) -> None:
    small = [each for each in graph.initializers.values() if each.dtype == ir.DataType.FLOAT]
    single = next(each for each in small if each.const_value and each.const_value.size == 1)
    assert single.const_value is not None
    single.const_value = ir.tensor(np.array(single.const_value.numpy() * np.float32(1.01)))


def output(graph: ir.Graph) -> None:
    graph.outputs[0].name, graph.outputs[1].name = "top_ids", "top_log_probs"


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (attribute, "attribute 'scale' is"),
        (missing, "it is Mul"),
        (operator, "it is Tanh"),
        (rewired, "(Attention, "),
        (swapped, "(TensorScatter, "),
        (wider, "answers [BFLOAT16] in the first and [FLOAT] in the second"),
        (constant, "holds other numbers in the second"),
        (output, "outputs are top_log_probs"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_what_is_no_matter_of_types_is_told(
    folder: Path, tmp_path: Path, spoil: Spoil, told: str
) -> None:
    model = ir.load(folder / "fp16" / "head.onnx")
    spoil(model.graph)
    ir.save(model, tmp_path / "head.onnx")
    (tmp_path / "head.data").write_bytes((folder / "fp16" / "head.data").read_bytes())
    found = differences(folder / "bf16" / "head.onnx", tmp_path / "head.onnx")
    assert any(told in each for each in found), found


def test_another_models_weights_are_told(folder: Path, tmp_path: Path) -> None:
    data = np.fromfile(folder / "fp16" / "head.data", np.float16)
    (-data).tofile(tmp_path / "head.data")
    (tmp_path / "head.onnx").write_bytes((folder / "fp16" / "head.onnx").read_bytes())
    found = differences(folder / "bf16" / "head.onnx", tmp_path / "head.onnx")
    assert any("holds other numbers" in each for each in found)


def test_another_capacity_is_told(tiny: Tiny, folder: Path, tmp_path: Path) -> None:
    build({"head": tiny[1]["head"]}, tmp_path, "fp16", CAPACITY + 8)
    found: Any = differences(folder / "bf16" / "head.onnx", tmp_path / "head.onnx")
    assert any("inputs are" in each and f",{CAPACITY}," in each for each in found)
