"""onnxruntime's fused operators in the place of neutral ones, before weights are rounded."""

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray

from tests.export.lowering_graphs import graph_of, rel_l2, run, value
from vlv_core import ops
from vlv_export.lowering._cleanup import clean
from vlv_export.lowering._linear import join_siblings
from vlv_export.lowering._variant import fuse, lower_rest

ROWS = [(1, 1, 6), (1, 3, 4), (2, 5, 0), (3, 1, 7), (7, 1, 0)]
"""batch, length, position: fused attention goes on from a position with one row or one token"""


def normal(*shape: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def constant(name: str, array: NDArray[Any]) -> ir.Value:
    made = value(name, array.shape)
    made.const_value = ir.tensor(array)
    return made


def fused(model: ir.Model) -> tuple[ir.Model, list[str]]:
    """The graph with everything fused that can be, and its operators."""
    fuse(model.graph, join=True)
    lower_rest(model.graph)
    clean(model)
    return model, [node.op_type for node in model.graph]


def step(
    heads: int, kept: int, wide: int, *, turned: int, window: int, softcap: float
) -> tuple[ir.Model, list[str], NDArray[np.float32], NDArray[np.float32]]:
    """Rotary of query and key, and cached attention; its tables."""
    cos, sin = normal(20, turned // 2, seed=8), normal(20, turned // 2, seed=9)
    tables = constant("cos", cos), constant("sin", sin)
    query, position = value("query", ("b", heads, "l", wide)), value("position", ("b",), "int64")
    key, val = (value(name, ("b", kept, "l", wide)) for name in ("key", "value"))
    past = [value(f"past_{name}", ("b", kept, "c", wide)) for name in ("key", "value")]
    nodes, rotated = [], []
    for each in (query, key):
        made = ir.Value(name=f"{each.name}_r", shape=each.shape, type=each.type)
        nodes.append(ir.node("Rotary", [each, position, *tables], domain="vlv", outputs=[made]))
        rotated.append(made)
    outputs = [value("out", ("b", heads, "l", wide))]
    outputs += [value(name, ("b", kept, "c", wide)) for name in ("k", "v")]
    options = {"scale": 0.4, "window": window, "softcap": softcap}
    inputs = [*rotated, val, *past, position]
    nodes.append(ir.node("CachedAttention", inputs, options, domain="vlv", outputs=outputs))
    model, kinds = fused(graph_of([query, key, val, *past, position], nodes, outputs))
    return model, kinds, cos, sin


@pytest.mark.parametrize(("heads", "kept", "wide", "turned"), [(2, 2, 16, 16), (6, 2, 32, 16)])
@pytest.mark.parametrize(("window", "softcap"), [(0, 0.0), (3, 0.0), (0, 5.0), (1, 2.0)])
@pytest.mark.parametrize(("rows", "length", "position"), ROWS)
def test_cached_attention_with_rotary(
    rows: int,
    length: int,
    position: int,
    window: int,
    softcap: float,
    heads: int,
    kept: int,
    wide: int,
    turned: int,
) -> None:
    model, kinds, cos, sin = step(heads, kept, wide, turned=turned, window=window, softcap=softcap)
    assert "GroupQueryAttention" in kinds and "Gather" not in kinds
    check_step(model, cos, sin, rows, length, position, window=window, softcap=softcap)


@pytest.mark.parametrize(
    ("wide", "turned", "there"),
    [(4, 4, False), (8, 8, True), (24, 16, True), (16, 8, True)],
)
def test_what_the_fused_operator_cannot_do_is_done_beside_it(
    wide: int, turned: int, there: bool
) -> None:
    """Widths that it refuses at all, and those that it cannot turn."""
    model, kinds, cos, sin = step(4, 2, wide, turned=turned, window=0, softcap=0.0)
    assert ("GroupQueryAttention" in kinds) == there and "Gather" in kinds
    check_step(model, cos, sin, 2, 1, 5, window=0, softcap=0.0)


def check_step(
    model: ir.Model,
    cos: NDArray[np.float32],
    sin: NDArray[np.float32],
    rows: int,
    length: int,
    position: int,
    **options: Any,
) -> None:
    shapes = {each.name: each.shape for each in model.graph.inputs}
    sizes = {"b": rows, "l": length, "c": 14}
    inputs = {
        name: normal(
            *(size if isinstance(size, int) else sizes[size.value] for size in shape), seed=i
        )
        for i, (name, shape) in enumerate(shapes.items())
        if name != "position"
    }
    drawn = np.random.default_rng(0).integers(0, position + 1, rows)
    places = np.full(rows, position) if length > 1 else drawn
    given = {name: torch.from_numpy(each.copy()) for name, each in inputs.items()}
    at = torch.from_numpy(places)
    tables = torch.from_numpy(cos), torch.from_numpy(sin)
    query, key = (ops.rotary(given[name], *tables, position=at) for name in ("query", "key"))
    past = given["past_key"], given["past_value"]
    out, (keys, values) = ops.cached_attention(
        query, key, given["value"], past, position=at, scale=0.4, **options
    )
    found = run(model, {**inputs, "position": places})
    assert rel_l2(found["out"], out.numpy()) < 1e-5
    for row, place in enumerate(places):
        used = slice(0, place + length)
        assert rel_l2(found["k"][row, :, used], keys[row, :, used].numpy()) < 1e-5
        assert rel_l2(found["v"][row, :, used], values[row, :, used].numpy()) < 1e-5


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", ["no", "row", "head", "bool"])
@pytest.mark.parametrize(("rows", "length"), [(1, 1), (2, 5), (3, 4), (7, 2)])
def test_attention(rows: int, length: int, masked: str, causal: bool) -> None:
    inputs = {name: normal(rows, 2, length, 4, seed=i) for i, name in enumerate("qkv")}
    shape: tuple[Any, ...] = ("b", 2, "l", "l") if masked == "head" else ("b", 1, 1, "l")
    values = [value(name, ("b", 2, "l", 4)) for name in "qkv"]
    given = {name: torch.from_numpy(each) for name, each in inputs.items()}
    mask = None
    if masked != "no":
        values.append(value("mask", shape, "bool" if masked == "bool" else "float32"))
        sizes = (rows, 2, length, length) if masked == "head" else (rows, 1, 1, length)
        inputs["mask"] = normal(*sizes, seed=3)
        inputs["mask"][..., 0] = 0.0
        mask = torch.from_numpy(inputs["mask"])
        if masked == "bool":
            inputs["mask"] = inputs["mask"] > -0.5
            mask = torch.zeros(mask.shape).masked_fill(mask <= -0.5, -torch.inf)
    out = value("out", ("b", 2, "l", 4))
    options = {"scale": 0.3, "causal": int(causal)}
    node = ir.node("Attention", values, options, domain="vlv", outputs=[out])
    model, kinds = fused(graph_of(values, [node], [out]))
    assert "MultiHeadAttention" in kinds
    query, key, val = (given[name] for name in "qkv")
    wanted = ops.attention(query, key, val, mask=mask, causal=causal, scale=0.3)
    assert rel_l2(run(model, inputs)["out"], wanted.numpy()) < 1e-5


@pytest.mark.parametrize("simple", [True, False])
def test_a_sum_and_its_norm_are_one_node_where_that_is_faster(simple: bool) -> None:
    a, b = value("a", ("b", "l", 6)), value("b", ("b", "l", 6))
    weight, bias = constant("w", normal(6, seed=2)), constant("bias", normal(6, seed=3))
    total, out = value("total", ("b", "l", 6)), value("out", ("b", "l", 6))
    add = ir.node("Add", [a, b], outputs=[total])
    if simple:
        norm = ir.node("RMSNorm", [total, weight], {"eps": 1e-3}, domain="vlv", outputs=[out])
    else:
        norm = ir.node(
            "LayerNormalization", [total, weight, bias], {"epsilon": 1e-3}, outputs=[out]
        )
    model, kinds = fused(graph_of([a, b], [add, norm], [total, out]))
    assert kinds == (
        ["SkipSimplifiedLayerNormalization"] if simple else ["Add", "LayerNormalization"]
    )
    inputs = {"a": normal(2, 3, 6, seed=0), "b": normal(2, 3, 6, seed=1)}
    found, x = run(model, inputs), torch.from_numpy(inputs["a"] + inputs["b"])
    scale, shift = torch.from_numpy(normal(6, seed=2)), torch.from_numpy(normal(6, seed=3))
    wanted = (
        ops.rms_norm(x, scale, eps=1e-3)
        if simple
        else torch.nn.functional.layer_norm(x, (6,), scale, shift, 1e-3)
    )
    assert rel_l2(found["total"], x.numpy()) < 1e-6 and rel_l2(found["out"], wanted.numpy()) < 1e-5


def test_a_broadcast_sum_stays_two_nodes() -> None:
    a, b = value("a", ("b", "l", 6)), value("b", (1, "l", 6))
    total, out = value("total", ("b", "l", 6)), value("out", ("b", "l", 6))
    add = ir.node("Add", [a, b], outputs=[total])
    weight = constant("w", normal(6, seed=2))
    norm = ir.node("RMSNorm", [total, weight], {"eps": 1e-3}, domain="vlv", outputs=[out])
    kinds = fused(graph_of([a, b], [add, norm], [out]))[1]
    assert "Add" in kinds and "SkipSimplifiedLayerNormalization" not in kinds


def projected(bias: bool) -> tuple[ir.Model, NDArray[np.float32]]:
    """x -> query, key, value by three products -> cached attention, heads side by side."""
    x, position = value("x", ("b", "l", 8)), value("position", ("b",), "int64")
    past = [value(f"past_{name}", ("b", 1, "c", 8)) for name in ("key", "value")]
    shape, perm = {"perm": [0, 2, 1, 3]}, constant_ints("shape")
    nodes, heads, full = [], [], []
    for seed, (name, count) in enumerate((("q", 2), ("k", 1), ("v", 1))):
        weight = normal(8, 8 * count, seed=seed)
        y = value(f"{name}_y", ("b", "l", 8 * count))
        nodes.append(ir.node("MatMul", [x, constant(f"{name}_w", weight)], outputs=[y]))
        added = normal(8 * count, seed=10 + seed) if bias else np.zeros(8 * count, np.float32)
        full.append(np.concatenate([weight, added[None]]))
        if bias:
            z = value(f"{name}_z", ("b", "l", 8 * count))
            nodes.append(ir.node("Add", [y, constant(f"{name}_b", added)], outputs=[z]))
            y = z
        split, turned = value(f"{name}_s", ("b", "l", count, 8)), value(name, ("b", count, "l", 8))
        nodes.append(ir.node("Reshape", [y, perm(count)], outputs=[split]))
        nodes.append(ir.node("Transpose", [split], shape, outputs=[turned]))
        heads.append(turned)
    outs = [value("out", ("b", 2, "l", 8))]
    outs += [value(name, ("b", 1, "c", 8)) for name in ("new_k", "new_v")]
    inputs = [*heads, *past, position]
    nodes.append(ir.node("CachedAttention", inputs, {"scale": 0.4}, domain="vlv", outputs=outs))
    return graph_of([x, *past, position], nodes, outs), np.concatenate(full, axis=1)


def constant_ints(name: str) -> Any:
    def made(count: int) -> ir.Value:
        array = np.array([0, 0, count, 8])
        found = value(f"{name}{count}", (4,), "int64")
        found.const_value = ir.tensor(array)
        return found

    return made


@pytest.mark.parametrize("bias", [False, True])
def test_query_key_and_value_are_one_product(bias: bool) -> None:
    plain, weights = projected(bias)
    model, kinds = fused(plain)
    assert kinds.count("MatMul") == 1 and "Split" not in kinds
    x, past = normal(2, 3, 8, seed=5), torch.zeros(2, 1, 6, 8)
    y = torch.from_numpy(x @ weights[:-1] + weights[-1]).unflatten(-1, (4, 8)).transpose(1, 2)
    wanted, _ = ops.cached_attention(
        y[:, :2], y[:, 2:3], y[:, 3:], (past, past), position=torch.zeros(2).long(), scale=0.4
    )
    zeros = past.numpy()
    inputs = {"x": x, "past_key": zeros, "past_value": zeros, "position": np.zeros(2, np.int64)}
    assert rel_l2(run(model, inputs)["out"], wanted.numpy()) < 1e-5


def test_gated_products_are_joined_and_silu_is_one_node() -> None:
    x, out = value("x", ("b", 4)), value("out", ("b", 6))
    gate, up, sig, act = (value(name, ("b", 6)) for name in ("gate", "up", "sig", "act"))
    first, second = normal(4, 6, seed=1), normal(4, 6, seed=2)
    nodes = [
        ir.node("MatMul", [x, constant("g", first)], outputs=[gate]),
        ir.node("MatMul", [x, constant("u", second)], outputs=[up]),
        ir.node("Sigmoid", [gate], outputs=[sig]),
        ir.node("Mul", [gate, sig], outputs=[act]),
        ir.node("Mul", [act, up], outputs=[out]),
    ]
    model, kinds = fused(graph_of([x], nodes, [out]))
    assert kinds == ["MatMul", "Split", "QuickGelu", "Mul"]
    given = normal(3, 4, seed=3)
    silu = torch.nn.functional.silu(torch.from_numpy(given @ first)).numpy()
    assert rel_l2(run(model, {"x": given})["out"], silu * (given @ second)) < 1e-6


def test_products_of_different_inputs_are_not_joined() -> None:
    x, y, a, b = (value(name, ("b", 4)) for name in "xyab")
    nodes = [
        ir.node("MatMul", [x, constant("g", normal(4, 4, seed=1))], outputs=[a]),
        ir.node("MatMul", [y, constant("u", normal(4, 4, seed=2))], outputs=[b]),
    ]
    model = graph_of([x, y], nodes, [a, b])
    join_siblings(model.graph)
    assert [node.op_type for node in model.graph] == ["MatMul", "MatMul"]


@pytest.mark.parametrize("form", ["columns", "heads"])
@pytest.mark.parametrize("bias", [False, True])
def test_projections_that_are_split_at_once_are_made_apart(form: str, bias: bool) -> None:
    """Both spellings of three projections: no split, slice or squeeze is left."""
    x, weight, added = value("x", ("b", 5, 6)), normal(6, 24, seed=1), normal(24, seed=2)
    whole = value("whole", ("b", 5, 24))
    nodes = [ir.node("MatMul", [x, constant("w", weight)], outputs=[whole])]
    if bias:
        biased = value("biased", ("b", 5, 24))
        nodes.append(ir.node("Add", [whole, constant("bias", added)], outputs=[biased]))
        whole = biased
    shape: tuple[Any, ...] = ("b", 5, 8) if form == "columns" else ("b", 2, 5, 4)
    outs = [value(name, shape) for name in "qkv"]
    if form == "columns":
        sizes = ints("sizes", [8, 8, 8])
        nodes.append(ir.node("Split", [whole, sizes], {"axis": -1}, outputs=outs))
    else:
        five, turned = value("five", ("b", 5, 3, 2, 4)), value("turned", (3, "b", 2, 5, 4))
        split = ints("split", [-1, 5, 3, 2, 4])
        nodes.append(ir.node("Reshape", [whole, split], outputs=[five]))
        nodes.append(ir.node("Transpose", [five], {"perm": [2, 0, 3, 1, 4]}, outputs=[turned]))
        for index, out in enumerate(outs):
            one = value(f"one{index}", (1, "b", 2, 5, 4))
            bounds = [ints(f"at{index}", [index]), ints(f"end{index}", [index + 1])]
            nodes.append(ir.node("Slice", [turned, *bounds, ints("axes", [0])], outputs=[one]))
            nodes.append(ir.node("Squeeze", [one, ints("axes", [0])], outputs=[out]))
    model = graph_of([x], nodes, outs)
    fuse(model.graph, join=False)
    clean(model)
    kinds = {node.op_type for node in model.graph}
    assert not kinds & {"Split", "Slice", "Squeeze"}
    given = normal(3, 5, 6, seed=3)
    parts = (given @ weight + (added if bias else 0)).reshape(3, 5, 3, 2, 4)
    found = run(model, {"x": given})
    for index, name in enumerate("qkv"):
        wanted = parts[:, :, index]
        wanted = wanted.reshape(3, 5, 8) if form == "columns" else wanted.transpose(0, 2, 1, 3)
        assert rel_l2(found[name], wanted) < 1e-6


def ints(name: str, numbers: list[int]) -> ir.Value:
    made = value(name, (len(numbers),), "int64")
    made.const_value = ir.tensor(np.array(numbers))
    return made
