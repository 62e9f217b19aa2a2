"""Weights in 8 and 4 bits: what is rounded how, and how far that is from float32."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from tests.export.lowering_graphs import cosine, graph_of, rel_l2, run, session, value
from vlv_core.parts import ExportPart
from vlv_export.lowering._blocks import Blocks, quantise_blocks, quantise_tables
from vlv_export.lowering._cleanup import clean
from vlv_export.lowering._integers import quantise_integers
from vlv_export.lowering._proof import _of_words
from vlv_export.lowering._quantise import HEADS
from vlv_export.lowering._variant import build_variant
from vlv_export.manifest import GraphEntry

Tiny = tuple[dict[str, ExportPart], dict[str, Path]]
Inputs = dict[str, NDArray[Any]]
Built = dict[str, tuple[Path, dict[str, GraphEntry]]]


def normal(*shape: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def constant(name: str, array: NDArray[Any]) -> ir.Value:
    made = value(name, array.shape)
    made.const_value = ir.tensor(array)
    return made


def product(weight: NDArray[np.float32], *, gemm: bool = False) -> ir.Model:
    """x -> y by MatMul, or by Gemm with a transposed weight and a bias."""
    rows, columns = weight.shape
    shape: tuple[Any, ...] = ("b", rows) if gemm else ("b", "l", rows)
    x, y = value("x", shape), value("y", (*shape[:-1], columns))
    if gemm:
        given = [x, constant("w", weight.T.copy()), constant("bias", normal(columns, seed=9))]
        node = ir.node("Gemm", given, {"transB": 1}, outputs=[y])
    else:
        node = ir.node("MatMul", [x, constant("w", weight)], outputs=[y])
    return graph_of([x], [node], [y])


def kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize("gemm", [False, True])
@pytest.mark.parametrize(("bits", "least"), [(8, 0.9999), (4, 0.99)])
@pytest.mark.parametrize("sizes", [(64, 48), (16, 40), (100, 32)])
def test_blocks(sizes: tuple[int, int], bits: int, least: float, gemm: bool) -> None:
    weight = normal(*sizes, seed=1)
    plain, model = product(weight, gemm=gemm), product(weight, gemm=gemm)
    quantise_blocks(model.graph, Blocks(bits=bits))
    clean(model)
    assert kinds(model) == (["MatMulNBits", "Add"] if gemm else ["MatMulNBits"])
    inputs = {"x": normal(5, sizes[0], seed=2) if gemm else normal(2, 3, sizes[0], seed=2)}
    assert cosine(run(model, inputs)["y"], run(plain, inputs)["y"]) >= least


def quantised(model: ir.Model, form: str) -> ir.Model:
    """By blocks, as the head of a variant, or by whole rows, as the other parts."""
    if form in HEADS:
        quantise_blocks(model.graph, HEADS[form])
    else:
        quantise_integers(model.graph)
    clean(model)
    return model


@pytest.mark.parametrize("form", [*HEADS, "rows"])
def test_a_row_of_a_product_does_not_depend_on_the_number_of_rows(form: str) -> None:
    """Nor on how large the numbers of the others are."""
    model = quantised(product(normal(576, 96, seed=1)), form)
    x = normal(32, 1, 576, seed=2) * np.logspace(-3, 3, 32, dtype=np.float32).reshape(32, 1, 1)
    together = run(model, {"x": x})["y"]
    for rows in (1, 2, 3, 8, 17):
        assert np.array_equal(run(model, {"x": x[:rows]})["y"], together[:rows])


def test_asymmetric_blocks_follow_weights_of_one_sign() -> None:
    weight = np.abs(normal(64, 32, seed=1)) + 3
    errors = []
    for symmetric in (True, False):
        model = product(weight)
        quantise_blocks(model.graph, Blocks(bits=4, symmetric=symmetric))
        clean(model)
        inputs = {"x": normal(1, 4, 64, seed=2)}
        errors.append(rel_l2(run(model, inputs)["y"], run(product(weight), inputs)["y"]))
    assert errors[1] < 0.6 * errors[0]


ROUNDING = ["Abs", "ReduceMax", "Div", "QuantizeLinear"]
"""of activations, each row by its largest number"""


@pytest.mark.parametrize("form", ["matmul", "gemm", "bias"])
def test_integers(form: str) -> None:
    weight, gemm = normal(96, 64, seed=1), form == "gemm"
    plain, model = (product(weight, gemm=gemm) for _ in range(2))
    for each in (plain, model) if form == "bias" else ():
        add_bias(each, normal(64, seed=4))
    quantise_integers(model.graph)
    clean(model)
    assert kinds(model) == [*ROUNDING, "MatMulIntegerToFloat", "Mul"] + ["Add"] * (form != "matmul")
    inputs = {"x": normal(5, 96, seed=2) if gemm else normal(2, 3, 96, seed=2)}
    assert cosine(run(model, inputs)["y"], run(plain, inputs)["y"]) >= 0.9995


def add_bias(model: ir.Model, bias: NDArray[np.float32]) -> None:
    """y of the graph becomes the product plus bias."""
    graph = model.graph
    out, made = graph.outputs[0], constant("added", bias)
    graph.register_initializer(made)
    out.name = "product"
    total = value(
        "y", tuple(str(size) if not isinstance(size, int) else size for size in out.shape or ())
    )
    graph.append(ir.node("Add", [out, made], outputs=[total]))
    graph.outputs[0] = total


def test_products_in_a_row_follow_each_other() -> None:
    """The second one's x is what the first has become."""
    x, y, z = value("x", ("b", 64)), value("y", ("b", 48)), value("z", ("b", 32))
    first, second = normal(64, 48, seed=1), normal(48, 32, seed=2)
    nodes = [
        ir.node("MatMul", [x, constant("first", first)], outputs=[y]),
        ir.node("MatMul", [y, constant("second", second)], outputs=[z]),
    ]
    model = graph_of([x], nodes, [z])
    quantise_integers(model.graph)
    clean(model)
    given = normal(4, 64, seed=3)
    assert cosine(run(model, {"x": given})["z"], given @ first @ second) >= 0.999


def test_each_row_is_rounded_by_its_own_size() -> None:
    """A faint row beside a bright one keeps its digits."""
    weight, x = normal(96, 64, seed=1), normal(5, 96, seed=2)
    x *= np.array([1e-30, 1e-6, 1.0, 1e6, 1e30], np.float32)[:, None]
    wanted = x.astype(np.float64) @ weight
    found = run(quantised(product_of_rows(weight), "rows"), {"x": x})["y"]
    for one, other in zip(found, wanted, strict=True):
        assert cosine(one, other) >= 0.9995


def product_of_rows(weight: NDArray[np.float32]) -> ir.Model:
    """x (b, K) -> y (b, N)."""
    x, y = value("x", ("b", weight.shape[0])), value("y", ("b", weight.shape[1]))
    return graph_of([x], [ir.node("MatMul", [x, constant("w", weight)], outputs=[y])], [y])


def test_zeros_stay_zeros() -> None:
    """Columns and activations without range, beside rows that have one."""
    weight = normal(64, 32, seed=1)
    weight[:, 3] = 0.0
    model = product(weight)
    quantise_integers(model.graph)
    clean(model)
    x = normal(1, 3, 64, seed=2)
    x[0, 1] = 0.0
    found = run(model, {"x": x})["y"]
    assert not found[..., 3].any() and not found[0, 1].any()
    assert found[0, 0, :3].all() and found[0, 2, :3].all()


def test_products_of_one_x_round_it_once() -> None:
    x, a, b = value("x", ("b", 64)), value("a", ("b", 32)), value("c", ("b", 32))
    nodes = [
        ir.node("MatMul", [x, constant(f"w{seed}", normal(64, 32, seed=seed))], outputs=[out])
        for seed, out in enumerate((a, b))
    ]
    model = graph_of([x], nodes, [a, b])
    quantise_integers(model.graph)
    clean(model)
    assert [kinds(model).count(kind) for kind in ROUNDING] == [1, 1, 1, 1]
    assert kinds(model).count("MatMulIntegerToFloat") == 2


def tied() -> tuple[ir.Model, NDArray[np.float32]]:
    """Rows of a table (1024, 64) by ids (b, l), and products with all of them; the table."""
    numbers = normal(1024, 64, seed=1) * np.linspace(0.1, 2, 1024, dtype=np.float32)[:, None]
    table = constant("table", numbers)
    ids, x = value("ids", ("b", "l"), "int64"), value("x", ("b", 64))
    rows, logits = value("rows", ("b", "l", 64)), value("logits", ("b", 1024))
    nodes = [
        ir.node("Gather", [table, ids], outputs=[rows]),
        ir.node("Gemm", [x, table], {"transB": 1}, outputs=[logits]),
    ]
    return graph_of([ids, x], nodes, [rows, logits]), numbers


@pytest.mark.parametrize(("dtype", "least"), [("int8", 0.9999), ("int4", 0.99)])
def test_a_tied_table_is_one_tensor_of_bytes(dtype: str, least: float) -> None:
    """Gathered rows are those that the product uses."""
    model, table = tied()
    assert sorted(kinds(quantised(model, dtype))) == ["GatherBlockQuantized", "MatMulNBits"]
    inputs: Inputs = {"ids": np.array([[3, 1000, 0]]), "x": np.eye(2, 64, dtype=np.float32)}
    found = run(model, inputs)
    for row, wanted in zip(found["rows"][0], table[[3, 1000, 0]], strict=True):
        assert cosine(row, wanted) > least
    assert cosine(found["logits"], table[:, :2].T) > least
    data = {
        name: each.const_value.numpy().tobytes()
        for name, each in model.graph.initializers.items()
        if each.const_value is not None and "packed" in name
    }
    assert len(data) == 2 and len(set(data.values())) == 1


def test_small_tables_stay_floats() -> None:
    table, ids = constant("table", normal(77, 32, seed=1)), value("ids", ("b",), "int64")
    out = value("out", ("b", 32))
    model = graph_of([ids], [ir.node("Gather", [table, ids], outputs=[out])], [out])
    quantise_tables(model.graph, Blocks(bits=8), {})
    assert kinds(model) == ["Gather"]


@pytest.fixture(scope="module")
def built(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folders = {dtype: tmp_path_factory.mktemp(dtype) for dtype in ("fp32", "int8", "int4")}
    return {
        dtype: (folder, build_variant(tiny[1], folder, dtype=dtype))
        for dtype, folder in folders.items()
    }


def outputs(built: Built, dtype: str, part: ExportPart, sizes: dict[str, int]) -> Any:
    inputs = part.example(sizes, seed=3)
    if part.name == "head":
        inputs |= {"position": np.zeros(sizes["batch"], np.int64), "k": np.array([3])}
    return run(built[dtype][0] / f"{part.name}.onnx", inputs)


@pytest.mark.parametrize("dtype", ["int8", "int4"])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", ["encoder", "condition", "text", "denoiser", "vae_decoder"])
def test_parts_stay_close_to_float32(
    tiny: Tiny, built: Built, name: str, rows: int, dtype: str
) -> None:
    part = tiny[0][name]
    sizes = {
        axis: rows if axis == "batch" else limits.typical for axis, limits in part.axes.items()
    }
    wanted, found = (outputs(built, each, part, sizes) for each in ("fp32", dtype))
    for output in wanted:
        assert cosine(found[output], wanted[output]) >= 0.998, output


@pytest.mark.parametrize(("dtype", "least"), [("int8", 0.999), ("int4", 0.97)])
def test_head_stays_close_to_float32(tiny: Tiny, built: Built, dtype: str, least: float) -> None:
    sizes = {"batch": 2, "prefix": 4, "length": 0, "capacity": 8}
    wanted, found = (outputs(built, each, tiny[0]["head"], sizes) for each in ("fp32", dtype))
    assert cosine(found["logits"], wanted["logits"]) >= least
    used = np.s_[:, :, :4]
    for name in ("present.0.key", "present.0.value"):
        assert cosine(found[name][used], wanted[name][used]) >= least


def test_head_decodes_in_one_shared_buffer(tiny: Tiny, built: Built) -> None:
    """Prefill, then steps: bound to one buffer or to two, the same words."""
    folder, entries = built["int4"]
    assert entries["head"].shared_cache and entries["head"].aliases
    opened = session(folder / "head.onnx")
    rows, capacity = 2, 9
    part = tiny[0]["head"]
    first = part.example({"batch": rows, "prefix": 4, "length": 0, "capacity": capacity}, seed=1)
    copied = {name: np.zeros_like(first[name]) for name in entries["head"].aliases}
    shared = {name: np.zeros_like(each) for name, each in copied.items()}
    inputs = {"prefix": first["prefix"], "tokens": first["tokens"], "k": np.array([1])}
    for position in (0, 4, 5, 6):
        inputs["position"] = np.full(rows, position)
        names = [each.name for each in opened.get_outputs()]
        found = dict(zip(names, opened.run(names, {**inputs, **copied}), strict=True))
        copied = {name: found[new] for name, new in entries["head"].aliases.items()}
        binding, held = opened.io_binding(), []
        for name, array in {**inputs, **shared}.items():
            held.append(ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)))
            binding.bind_ortvalue_input(name, held[-1])
            if name in shared:
                binding.bind_ortvalue_output(entries["head"].aliases[name], held[-1])
        binding.bind_output("top_ids")
        binding.bind_output("logits")
        opened.run_with_iobinding(binding)
        ids, logits = binding.copy_outputs_to_cpu()[-2:]
        np.testing.assert_allclose(logits, found["logits"], atol=1e-5)
        inputs |= {"prefix": first["prefix"][:, :0], "tokens": ids}


def test_quantised_heads_hold_each_weight_once(tiny: Tiny, built: Built) -> None:
    """4 bits a number of a matrix, a float32 scale for every 16 of them here, and the rest."""
    parameters = {each.data_ptr(): each for each in tiny[0]["head"].module.parameters()}
    numbers = sum(each.numel() for each in parameters.values() if each.dim() == 2)
    rest = sum(each.numel() for each in parameters.values()) - numbers
    size = (built["int4"][0] / "head.data").stat().st_size
    assert size <= 1.05 * (numbers * (0.5 + 4 / 16) + rest * 4) + 2048


def spoken(*, tied: bool) -> ir.Model:
    """ids -> scores of 80 words: a gathered row, a layer, and a product with the table, or with a
    matrix of its own."""
    ids, scores = value("ids", ("b",), "int64"), value("scores", ("b", 80))
    table, layer = constant("table", normal(80, 64, seed=1)), constant("w", normal(64, 64, seed=2))
    row, hidden = value("row", ("b", 64)), value("hidden", ("b", 64))
    last = [hidden, table] if tied else [hidden, constant("last", normal(80, 64, seed=3))]
    nodes = [
        ir.node("Gather", [table, ids], outputs=[row]),
        ir.node("MatMul", [row, layer], outputs=[hidden]),
        ir.node("Gemm", last, {"transB": 1}, outputs=[scores]),
    ]
    return graph_of([ids], nodes, [scores])


@pytest.mark.parametrize("tied", [True, False])
def test_words_keep_eight_bits_beside_layers_of_four(tied: bool) -> None:
    plain, model = spoken(tied=tied), spoken(tied=tied)
    quantise_blocks(model.graph, HEADS["int4"], words=Blocks(bits=8))
    clean(model)
    held = {node.op_type: node.attributes["bits"].value for node in model.graph
            if node.op_type == "GatherBlockQuantized"}  # fmt: skip
    products = [node for node in model.graph if node.op_type == "MatMulNBits"]
    # a table of so few numbers stays as it is, unless a product has packed it already
    assert held == ({"GatherBlockQuantized": 8} if tied else {})
    assert [node.attributes["bits"].value for node in products] == [4, 8]
    inputs = {"ids": np.arange(8)}
    found, wanted = run(model, inputs)["scores"], run(plain, inputs)["scores"]
    all_in_four = spoken(tied=tied)
    quantise_blocks(all_in_four.graph, HEADS["int4"])
    clean(all_in_four)
    assert rel_l2(found, wanted) < 0.9 * rel_l2(run(all_in_four, inputs)["scores"], wanted)


def test_a_head_is_judged_without_its_words() -> None:
    """The table, and the product that shares its bytes, are told from the layer."""
    model = spoken(tied=True)
    quantise_blocks(model.graph, HEADS["int4"], words=Blocks(bits=8))
    clean(model)
    packed = {name for name in model.graph.initializers if not name.endswith((".scales", ".zeros"))}
    words = _of_words(model.graph)
    assert words < packed
    assert {name.partition(".")[0] for name in words} == {"table"}
    assert {name.partition(".")[0] for name in packed - words} == {"w"}
