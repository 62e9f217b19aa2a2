"""Weights that were in 4 bits before: their levels are kept, whatever their offsets."""

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from tests.export.lowering_graphs import graph_of, rel_l2, run, value
from vlv_export.lowering._blocks import quantise_blocks
from vlv_export.lowering._cleanup import clean
from vlv_export.lowering._offsets import rests, split_offsets
from vlv_export.lowering._quantise import HEADS, quantise

Floats = NDArray[np.float32]
SPLIT = ["MatMulNBits", "Concat", "MatMulNBits"]
"""sums, x beside them, and the product"""


def levels(rows: int, columns: int, *, seed: int) -> Floats:
    """(rows, columns) as Q4_1 holds them: 16 levels, a step and an offset for 32 numbers."""
    random = np.random.default_rng(seed)
    numbers = random.integers(0, 16, (rows // 32, 32, columns))
    numbers[:, 0], numbers[:, 1] = 0, 15
    steps = random.uniform(0.01, 0.02, (rows // 32, 1, columns)).astype(np.float16)
    least = (-steps * random.uniform(6, 9, steps.shape)).astype(np.float16)
    held = steps.astype(np.float32) * numbers + least.astype(np.float32)
    return np.asarray(held.reshape(rows, columns), np.float32)


def normal(*shape: int, seed: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def constant(name: str, array: NDArray[Any]) -> ir.Value:
    made = value(name, array.shape)
    made.const_value = ir.tensor(array)
    return made


def product(*weights: Floats) -> ir.Model:
    """x -> y0, y1 ...: x times each of the weights."""
    x = value("x", ("b", "l", len(weights[0])))
    nodes, outputs = [], []
    for index, weight in enumerate(weights):
        outputs.append(value(f"y{index}", ("b", "l", weight.shape[1])))
        given = [x, constant(f"w{index}", weight)]
        nodes.append(ir.node("MatMul", given, outputs=[outputs[-1]]))
    return graph_of([x], nodes, outputs)


def quantised(model: ir.Model, dtype: str = "int4") -> ir.Model:
    quantise(model.graph, "head", dtype)
    clean(model)
    return model


def kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_levels_are_kept() -> None:
    """What is left is the rounding of activations; whole zero points alone are ten times off."""
    weight, x = levels(576, 96, seed=1), normal(2, 3, 576, seed=2)
    split, whole = quantised(product(weight)), product(weight)
    quantise_blocks(whole.graph, HEADS["int4"])
    wanted = (x.astype(np.float64) @ weight).astype(np.float32)
    kept, moved = (rel_l2(run(each, {"x": x})["y0"], wanted) for each in (split, whole))
    assert kinds(split) == SPLIT
    assert kept < 0.012 and moved > 5 * kept


def test_what_a_block_is_off_by() -> None:
    """Against the offsets that the weight was made with."""
    steps, zeros, off = 0.5, 7, np.array([0.2, -0.1])
    numbers = np.tile(np.arange(16), 4)[:, None] - zeros
    weight = (steps * numbers + np.repeat(off, 32)[:, None]).astype(np.float32)
    found = rests(weight, 32)
    assert found is not None
    np.testing.assert_allclose(found, off[:, None], atol=1e-6)


def test_a_row_does_not_depend_on_the_number_of_rows() -> None:
    model = quantised(product(levels(576, 96, seed=1)))
    x = normal(32, 1, 576, seed=2) * np.logspace(-3, 3, 32, dtype=np.float32).reshape(32, 1, 1)
    together = run(model, {"x": x})["y0"]
    for rows in (1, 2, 3, 8, 17):
        assert np.array_equal(run(model, {"x": x[:rows]})["y0"], together[:rows])


def test_products_of_one_x_sum_it_once() -> None:
    weights = levels(128, 48, seed=1), levels(128, 32, seed=2)
    model = quantised(product(*weights))
    assert sorted(kinds(model)) == sorted([*SPLIT, "MatMulNBits"])
    x = normal(1, 4, 128, seed=3)
    found = run(model, {"x": x})
    for index, weight in enumerate(weights):
        assert rel_l2(found[f"y{index}"], x @ weight) < 0.012


def test_a_transposed_weight_and_its_bias() -> None:
    weight, bias = levels(96, 48, seed=1), normal(48, seed=2)
    x, y = value("x", ("b", 96)), value("y", ("b", 48))
    given = [x, constant("w", weight.T.copy()), constant("bias", bias)]
    model = quantised(graph_of([x], [ir.node("Gemm", given, {"transB": 1}, outputs=[y])], [y]))
    assert kinds(model) == [*SPLIT, "Add"]
    inputs = {"x": normal(5, 96, seed=3)}
    assert rel_l2(run(model, inputs)["y"], inputs["x"] @ weight + bias) < 0.012


def test_blocks_of_one_number() -> None:
    """Zeros, and a number that is no level of zero's."""
    weight = levels(64, 32, seed=1)
    weight[:32, 3], weight[32:, 5] = 0.0, 0.07
    model = quantised(product(weight))
    x = normal(1, 3, 64, seed=2)
    assert kinds(model) == SPLIT
    assert rel_l2(run(model, {"x": x})["y0"], x @ weight) < 0.02


@pytest.mark.parametrize("form", ["normal", "nearly", "a part", "short"])
def test_other_weights_stay_as_they_are(form: str) -> None:
    """One column that was trained on is enough; and blocks must be whole."""
    weight = normal(96, 64, seed=1) if form == "normal" else levels(96, 64, seed=1)
    if form == "nearly":
        weight += 1e-3 * normal(96, 64, seed=2)
    if form == "a part":
        weight[:, 40] += 1e-3 * normal(96, seed=2)
    assert kinds(quantised(product(weight[:80] if form == "short" else weight))) == ["MatMulNBits"]


def test_8_bits_stay_as_they_are() -> None:
    assert kinds(quantised(product(levels(96, 64, seed=1)), "int8")) == ["MatMulNBits"]


def test_a_gathered_table_stays_as_it_is() -> None:
    """Its rows are read by token too, without sums."""
    table = constant("table", levels(64, 1024, seed=1).T.copy())
    ids, x = value("ids", ("b",), "int64"), value("x", ("b", 64))
    rows, logits = value("rows", ("b", 64)), value("logits", ("b", 1024))
    nodes = [
        ir.node("Gather", [table, ids], outputs=[rows]),
        ir.node("Gemm", [x, table], {"transB": 1}, outputs=[logits]),
    ]
    model = graph_of([ids, x], nodes, [rows, logits])
    split_offsets(model.graph, size=32)
    assert kinds(model) == ["Gather", "Gemm"]
