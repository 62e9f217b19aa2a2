"""float16 and bfloat16: what is low and what stays wide, and that both are one graph."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from tests.export.lowering_graphs import cosine, graph_of, run, value
from vlv_core.errors import UsageError
from vlv_core.parts import ExportPart
from vlv_export.lowering._cleanup import clean, finish
from vlv_export.lowering._precision import lower_precision
from vlv_export.lowering._proof import proved_precision
from vlv_export.lowering._variant import build_variant
from vlv_export.manifest import GraphEntry

Tiny = tuple[dict[str, ExportPart], dict[str, Path]]
Built = dict[str, tuple[Path, dict[str, GraphEntry]]]
PARTS = ("encoder", "head", "condition", "text", "denoiser", "vae_decoder")
FLOAT, FLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16


@pytest.fixture(scope="module")
def built(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folders = {dtype: tmp_path_factory.mktemp(dtype) for dtype in ("fp32", "fp16", "bf16")}
    return {
        dtype: (folder, build_variant(tiny[1], folder, dtype=dtype))
        for dtype, folder in folders.items()
    }


def outputs(built: Built, dtype: str, part: ExportPart, rows: int) -> dict[str, NDArray[Any]]:
    sizes = {
        axis: rows if axis == "batch" else limits.typical for axis, limits in part.axes.items()
    }
    sizes |= {"prefix": 4, "length": 0, "capacity": 9}
    inputs = part.example(sizes, seed=rows)
    if part.name == "head":
        inputs["k"] = np.array([3])
    for entry in built[dtype][1][part.name].inputs:
        inputs[entry.name] = inputs[entry.name].astype(entry.dtype)
    return run(built[dtype][0] / f"{part.name}.onnx", inputs)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", PARTS)
def test_float16_stays_close_to_float32(tiny: Tiny, built: Built, name: str, rows: int) -> None:
    wanted, found = (outputs(built, dtype, tiny[0][name], rows) for dtype in ("fp32", "fp16"))
    for output in set(wanted) - {"top_ids"}:
        assert cosine(found[output], wanted[output]) >= 0.9995, output


@pytest.mark.parametrize(("dtype", "element"), [("fp16", "float16"), ("bf16", "bfloat16")])
def test_inputs_and_outputs_are_float32_but_the_cache(
    built: Built, dtype: str, element: str
) -> None:
    for entry in built[dtype][1].values():
        for each in (*entry.inputs, *entry.outputs):
            cached = each.name.startswith(("past.", "present."))
            assert each.dtype in ({element} if cached else {"float32", "int64", "uint8"})


@pytest.mark.parametrize(
    ("dtype", "element", "least"),
    [("fp32", "float32", 1.0), ("fp16", "float16", 0.9), ("bf16", "bfloat16", 0.9)],
)
def test_precision_is_proved(built: Built, dtype: str, element: str, least: float) -> None:
    folder, entries = built[dtype]
    proved = proved_precision(folder, entries)
    assert proved[element] >= least and sum(proved.values()) == pytest.approx(1.0)


def test_a_float32_graph_is_not_proved_to_be_what_it_is_sold_as(built: Built) -> None:
    assert "float16" not in proved_precision(*built["fp32"])


def structure(path: Path) -> list[Any]:
    """Nodes and edges of a graph without its casts between floats; weights by name."""
    graph = ir.load(path).graph
    floats = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
    names: dict[ir.Value, Any] = {each: each.name for each in graph.inputs}
    for name, each in graph.initializers.items():
        names[each] = name.removesuffix(".low")
    found = []
    for node in graph:
        source = node.inputs[0] if node.inputs else None
        if node.op_type == "Cast" and source is not None and source.dtype in floats:
            names[node.outputs[0]] = names[source]
            continue
        attributes = {key: each.value for key, each in node.attributes.items() if key != "to"}
        inputs = [None if each is None else names[each] for each in node.inputs]
        for index, each in enumerate(node.outputs):
            names[each] = (len(found), index)
        found.append((node.op_type, inputs, sorted(attributes.items(), key=str)))
    return [*found, [names[each] for each in graph.outputs]]


@pytest.mark.parametrize("name", PARTS)
def test_the_three_float_forms_differ_in_types_alone(built: Built, name: str) -> None:
    """bfloat16 cannot be run on a CPU: it is right if its structure is the others'."""
    single, half, brain = (
        structure(built[dtype][0] / f"{name}.onnx") for dtype in ("fp32", "fp16", "bf16")
    )
    assert half == brain == single


def types(model: ir.Model) -> dict[str, ir.DataType | None]:
    """Element type that each operator answers."""
    return {node.op_type: node.outputs[0].dtype for node in model.graph}


def half(model: ir.Model) -> ir.Model:
    clean(model)
    lower_precision(model, "part", "fp16")
    finish(model)
    return model


def constant(name: str, array: NDArray[Any]) -> ir.Value:
    made = value(name, array.shape)
    made.const_value = ir.tensor(array)
    return made


def test_what_comes_before_the_first_product_stays_wide() -> None:
    """A timestep of 999 is not a bfloat16 number; its sine must not be that of 1000."""
    t, weight = value("t", ("b",), "int64"), constant("w", np.ones((1, 4), np.float32))
    x, angle, row = value("x", ("b",)), value("angle", ("b",)), value("row", ("b", 1))
    sine, out = value("sine", ("b", 1)), value("out", ("b", 4))
    axes = value("axes", (1,), "int64")
    axes.const_value = ir.tensor(np.array([1]))
    nodes = [
        ir.node("Cast", [t], {"to": FLOAT}, outputs=[x]),
        ir.node("Mul", [x, constant("f", np.float32(0.1))], outputs=[angle]),
        ir.node("Unsqueeze", [angle, axes], outputs=[row]),
        ir.node("Sin", [row], outputs=[sine]),
        ir.node("MatMul", [sine, weight], outputs=[out]),
    ]
    model = half(graph_of([t], nodes, [out]))
    assert types(model) | {"Cast": None} == {
        "Cast": None, "Mul": FLOAT, "Unsqueeze": FLOAT, "Sin": FLOAT, "MatMul": FLOAT16,
    }  # fmt: skip
    found = run(model, {"t": np.array([999])})["out"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.full((1, 4), np.sin(99.9)), rtol=2e-3)


def product(weight: NDArray[np.float32]) -> ir.Model:
    x, y = value("x", ("b", weight.shape[0])), value("y", ("b", weight.shape[1]))
    node = ir.node("MatMul", [x, constant("lm.weight", weight)], outputs=[y])
    return graph_of([x], [node], [y])


def test_weights_beyond_float16_are_refused_by_name() -> None:
    weight = np.ones((4, 4), np.float32)
    weight[1, 2] = -7e4
    model = half(product(weight))
    low = model.graph.initializers["lm.weight.low"].const_value
    assert low is not None
    pattern = r"part 'part': weight 'lm.weight' holds 7e\+04, and float16 ends at 6.55e\+04"
    with pytest.raises(UsageError, match=pattern) as raised:
        low.numpy()
    assert raised.value.hint == "export with --dtype bf16 or --dtype fp32"


def test_masks_smallest_number_becomes_infinite_where_it_must() -> None:
    x, seen, out = value("x", ("b", 3)), value("seen", ("b", 3), "bool"), value("out", ("b", 3))
    y, kept = value("y", ("b", 3)), value("kept", ("b", 3))
    least = constant("least", np.float32(np.finfo(np.float32).min))
    nodes = [
        ir.node("MatMul", [x, constant("w", np.eye(3, dtype=np.float32))], outputs=[y]),
        ir.node("Where", [seen, y, least], outputs=[kept]),
        ir.node("Softmax", [kept], {"axis": -1}, outputs=[out]),
    ]
    model = half(graph_of([x, seen], nodes, [out]))
    given = {"x": np.zeros((1, 3), np.float32), "seen": np.array([[True, False, True]])}
    np.testing.assert_allclose(run(model, given)["out"], [[0.5, 0.0, 0.5]])
