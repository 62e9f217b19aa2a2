"""Attention as engines take it, against its plain meaning in vlv_core.ops."""

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

from tests.export.lowering_graphs import graph_of, rel_l2, run, session, value
from vlv_core import ops
from vlv_export.lowering._cleanup import clean
from vlv_export.lowering._engine_attention import NEVER, lower_for_engine
from vlv_export.lowering._lint_engine import engine_faults

SHAPES = [(1, 1), (2, 5), (3, 1), (7, 4)]
"""batch, length"""
CAPACITY = 12


def lowered(model: ir.Model) -> ir.Model:
    lower_for_engine(model.graph, "fp32")
    clean(model)
    model.graph.opset_imports[""] = 24
    return model


def one(op: str, inputs: list[ir.Value], outputs: list[ir.Value], **attributes: Any) -> ir.Model:
    node = ir.node(op, inputs, attributes, domain="vlv", outputs=outputs)
    return lowered(graph_of(inputs, [node], outputs))


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def attention_of(model: ir.Model) -> ir.Node:
    [node] = [node for node in model.graph if node.op_type == "Attention"]
    return node


@pytest.mark.parametrize("heads", [(2, 2), (6, 2), (3, 1)])
@pytest.mark.parametrize("masked", ["no", "causal", "row", "head", "bool", "row+causal"])
@pytest.mark.parametrize(("rows", "length"), SHAPES)
def test_attention(rows: int, length: int, masked: str, heads: tuple[int, int]) -> None:
    causal, kind = "causal" in masked, masked.partition("+")[0]
    keys = length if causal else 5
    inputs: dict[str, NDArray[Any]] = {
        "query": normal(rows, heads[0], length, 4),
        "key": normal(rows, heads[1], keys, 4, seed=1),
        "value": normal(rows, heads[1], keys, 6, seed=2),
    }
    values = [
        value("query", ("b", heads[0], "l", 4)),
        value("key", ("b", heads[1], "s", 4)),
        value("value", ("b", heads[1], "s", 6)),
    ]
    given = {name: torch.from_numpy(array) for name, array in inputs.items()}
    if kind in ("row", "head", "bool"):
        shape: tuple[Any, ...] = ("b", heads[0], "l", "s") if kind == "head" else ("b", 1, 1, "s")
        values.append(value("mask", shape, "bool" if kind == "bool" else "float32"))
        sizes = (rows, heads[0], length, keys) if kind == "head" else (rows, 1, 1, keys)
        drawn = normal(*sizes, seed=3)
        drawn[..., 0] = 0.0
        hidden = np.where(drawn > -0.5, 3 * drawn, -np.inf).astype(np.float32)
        inputs["mask"] = drawn > -0.5 if kind == "bool" else hidden
        added = np.where(drawn > -0.5, 0.0, -np.inf) if kind == "bool" else hidden
        given["mask"] = torch.from_numpy(added.astype(np.float32))
    out = [value("out", ("b", heads[0], "l", 6))]
    model = one("Attention", values, out, causal=int(causal), scale=0.3)
    assert list(engine_faults(model)) == []
    wanted = ops.attention(**given, causal=causal, scale=0.3)
    assert rel_l2(run(model, inputs)["out"], wanted.numpy()) < 1e-6


def cached_model(heads: int, kept: int, *, window: int, softcap: float, scale: float) -> ir.Model:
    cache, new = ("b", kept, CAPACITY, 4), ("b", kept, "l", 4)
    inputs = [
        value("query", ("b", heads, "l", 4)),
        value("key", new),
        value("value", new),
        value("past.0.key", cache),
        value("past.0.value", cache),
        value("position", ("b",), "int64"),
    ]
    outputs = [value("out", ("b", heads, "l", 4))]
    outputs += [value(f"present.0.{name}", cache) for name in ("key", "value")]
    options = {"scale": scale, "window": window, "softcap": softcap}
    return one("CachedAttention", inputs, outputs, **options)


def cached_inputs(rows: int, length: int, heads: tuple[int, int]) -> dict[str, NDArray[Any]]:
    return {
        "query": normal(rows, heads[0], length, 4),
        "key": normal(rows, heads[1], length, 4, seed=1),
        "value": normal(rows, heads[1], length, 4, seed=2),
        "past.0.key": normal(rows, heads[1], CAPACITY, 4, seed=3),
        "past.0.value": normal(rows, heads[1], CAPACITY, 4, seed=4),
        "position": np.random.default_rng(5).integers(0, CAPACITY - length + 1, rows),
    }


def cached_wanted(inputs: dict[str, NDArray[Any]], **options: Any) -> list[NDArray[Any]]:
    given = [torch.from_numpy(array.copy()) for array in inputs.values()]
    query, key, new, past_key, past_value, position = given
    past = past_key, past_value
    out, pair = ops.cached_attention(query, key, new, past, position=position, **options)
    return [each.numpy() for each in (out, *pair)]


@pytest.mark.parametrize("heads", [(2, 2), (6, 2), (9, 3)])
@pytest.mark.parametrize("scale", [0.5, 0.4, 1.0, 0.0625, 3.0])
@pytest.mark.parametrize("options", [(0, 0.0), (3, 0.0), (0, 5.0), (1, 2.0)])
@pytest.mark.parametrize(("rows", "length"), SHAPES)
def test_cached_attention(
    rows: int, length: int, options: tuple[int, float], scale: float, heads: tuple[int, int]
) -> None:
    settings = {"window": options[0], "softcap": options[1], "scale": scale}
    inputs = cached_inputs(rows, length, heads)
    model = cached_model(*heads, **settings)  # type: ignore[arg-type]
    assert list(engine_faults(model)) == []
    found = run(model, inputs)
    wanted = cached_wanted(inputs, **settings)
    for name, each in zip(("out", "present.0.key", "present.0.value"), wanted, strict=True):
        assert rel_l2(found[name], each) < 1e-6, name


@pytest.mark.parametrize(("window", "softcap"), [(0, 0.0), (3, 0.0), (0, 5.0)])
@pytest.mark.parametrize("garbage", [1e20, -1e20, 7.0])
def test_what_lies_beyond_the_used_cache_changes_nothing(
    garbage: float, window: int, softcap: float
) -> None:
    inputs = cached_inputs(3, 2, (4, 2))
    model = cached_model(4, 2, window=window, softcap=softcap, scale=0.4)
    sound = run(model, inputs)["out"]
    for row, position in enumerate(inputs["position"]):
        for name in ("past.0.key", "past.0.value"):
            inputs[name][row, :, position:] = garbage
    np.testing.assert_array_equal(run(model, inputs)["out"], sound)


@pytest.mark.parametrize("softcap", [0.0, 5.0])
def test_a_cache_bound_to_both_names_is_written_in_place(softcap: float) -> None:
    inputs = cached_inputs(2, 1, (4, 2))
    wanted = cached_wanted(inputs, scale=0.4, softcap=softcap)
    opened = session(cached_model(4, 2, window=0, softcap=softcap, scale=0.4))
    binding, held = opened.io_binding(), {}
    for name, array in inputs.items():
        held[name] = ort.OrtValue.ortvalue_from_numpy(array)
        binding.bind_ortvalue_input(name, held[name])
    binding.bind_output("out")
    for name in ("key", "value"):
        binding.bind_ortvalue_output(f"present.0.{name}", held[f"past.0.{name}"])
    opened.run_with_iobinding(binding)
    assert rel_l2(binding.copy_outputs_to_cpu()[0], wanted[0]) < 1e-6
    np.testing.assert_array_equal(inputs["past.0.key"], wanted[1])
    np.testing.assert_array_equal(inputs["past.0.value"], wanted[2])


@pytest.mark.parametrize(
    ("scale", "exact", "rest"),
    [(0.125, 0.0625, 2.0), (0.25, 0.25, None), (0.0625, 0.0625, None), (1.0, 0.25, 4.0),
     (0.1, 0.0625, 1.6), (3.0, 0.25, 12.0)],
)  # fmt: skip
def test_scales_have_exact_roots_and_the_query_takes_the_rest(
    scale: float, exact: float, rest: float | None
) -> None:
    model = cached_model(2, 2, window=0, softcap=0.0, scale=scale)
    assert attention_of(model).attributes["scale"].as_float() == exact
    factors = [node for node in model.graph if node.op_type == "Mul"]
    assert len(factors) == (rest is not None)
    for node in factors:
        constant = node.inputs[1]
        assert constant is not None and constant.const_value is not None
        assert constant.const_value.numpy() == pytest.approx(rest)
        # Times a power of two nothing is rounded, in any type.
        assert bool(node.meta.get("wide")) == (rest not in (2.0, 4.0))


def test_a_causal_mask_is_left_to_the_operator_where_nothing_else_hides() -> None:
    inputs = [value(name, ("b", 2, "l", 4)) for name in ("query", "key", "value")]
    model = one("Attention", inputs, [value("out", ("b", 2, "l", 4))], causal=1, scale=0.5)
    node = attention_of(model)
    assert node.attributes["is_causal"].as_int() == 1 and len(node.inputs) == 3


@pytest.mark.parametrize(("dtype", "kind"), [("fp16", np.float16), ("fp32", np.float32)])
def test_what_is_never_seen_stays_finite_with_a_score_added(dtype: str, kind: Any) -> None:
    never = kind(NEVER[dtype])
    assert np.isfinite(never - kind(30000.0)) and np.exp(never.astype(np.float64)) == 0.0
    assert NEVER["bf16"] == NEVER["fp32"]


def test_layers_share_one_mask() -> None:
    pasts = [value(f"past.{layer}.{kind}", ("b", 2, CAPACITY, 4))
             for layer in (0, 1) for kind in ("key", "value")]  # fmt: skip
    query, position = value("query", ("b", 2, "l", 4)), value("position", ("b",), "int64")
    nodes, outs, x = [], [], query
    for layer in (0, 1):
        outs.append(made := value(f"out{layer}", ("b", 2, "l", 4)))
        present = [value(f"present.{layer}.{kind}", ("b", 2, CAPACITY, 4)) for kind in "kv"]
        inputs = [x, x, x, *pasts[2 * layer : 2 * layer + 2], position]
        options = {"scale": 0.25}
        nodes.append(
            ir.node("CachedAttention", inputs, options, domain="vlv", outputs=[made, *present])
        )
        x = made
    model = lowered(graph_of([query, position, *pasts], nodes, [x]))
    kinds = [node.op_type for node in model.graph]
    assert (kinds.count("Where"), kinds.count("Attention"), kinds.count("Mul")) == (1, 2, 0)
