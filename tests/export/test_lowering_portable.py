"""Each neutral operation in standard operators, against its plain meaning in vlv_core.ops."""

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
from vlv_export.lowering._emit import Emitter
from vlv_export.lowering._portable import lower

SHAPES = [(1, 1), (2, 5), (3, 1), (7, 4)]
"""batch, length"""


def lowered(model: ir.Model) -> ir.Model:
    """In standard operators alone."""
    emit = Emitter(model.graph)
    for node in tuple(model.graph):
        if node.domain == "vlv":
            lower(emit, node)
    clean(model)
    assert {node.domain for node in model.graph} == {""}
    return model


def one(op: str, inputs: list[ir.Value], outputs: list[ir.Value], **attributes: Any) -> ir.Model:
    node = ir.node(op, inputs, attributes, domain="vlv", outputs=outputs)
    return lowered(graph_of([each for each in inputs if each is not None], [node], outputs))


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def torched(inputs: dict[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array.copy()) for name, array in inputs.items()}


@pytest.mark.parametrize(("rows", "length"), [*SHAPES, (2, 0)])
def test_rms_norm(rows: int, length: int) -> None:
    x, weight, y = value("x", ("b", "l", 6)), value("w", (6,)), value("y", ("b", "l", 6))
    inputs = {"x": normal(rows, length, 6), "w": normal(6, seed=1)}
    found = run(one("RMSNorm", [x, weight], [y], eps=1e-5), inputs)["y"]
    given = torched(inputs)
    assert rel_l2(found, ops.rms_norm(given["x"], given["w"], eps=1e-5).numpy()) < 1e-6


@pytest.mark.parametrize("turned", [8, 4])
@pytest.mark.parametrize(("rows", "length"), [*SHAPES, (2, 0)])
def test_rotary(rows: int, length: int, turned: int) -> None:
    inputs = {
        "x": normal(rows, 3, length, 8),
        "position": np.random.default_rng(1).integers(0, 9, rows),
        "cos": normal(16, turned // 2, seed=2),
        "sin": normal(16, turned // 2, seed=3),
    }
    values = [
        value("x", ("b", 3, "l", 8)),
        value("position", ("b",), "int64"),
        value("cos", (16, turned // 2)),
        value("sin", (16, turned // 2)),
    ]
    found = run(one("Rotary", values, [value("y", ("b", 3, "l", 8))]), inputs)["y"]
    given = torched(inputs)
    wanted = ops.rotary(given["x"], given["cos"], given["sin"], position=given["position"])
    assert found.shape == wanted.shape and rel_l2(found, wanted.numpy()) < 1e-6


def attention_model(heads: int, kept: int, *, mask: ir.Value | None, causal: bool) -> ir.Model:
    inputs = [
        value("query", ("b", heads, "l", 4)),
        value("key", ("b", kept, "s", 4)),
        value("value", ("b", kept, "s", 6)),
        *([mask] if mask is not None else []),
    ]
    out = [value("out", ("b", heads, "l", 6))]
    return one("Attention", inputs, out, causal=int(causal), scale=0.3)


@pytest.mark.parametrize("heads", [(2, 2), (6, 2), (3, 1)])
@pytest.mark.parametrize("masked", ["no", "causal", "row", "head", "bool"])
@pytest.mark.parametrize(("rows", "length"), SHAPES)
def test_attention(rows: int, length: int, masked: str, heads: tuple[int, int]) -> None:
    keys = length if masked == "causal" else 5
    inputs = {
        "query": normal(rows, heads[0], length, 4),
        "key": normal(rows, heads[1], keys, 4, seed=1),
        "value": normal(rows, heads[1], keys, 6, seed=2),
    }
    shape: tuple[Any, ...] = ("b", heads[0], "l", "s") if masked == "head" else ("b", 1, 1, "s")
    mask = None
    if masked in ("row", "head", "bool"):
        mask = value("mask", shape, "bool" if masked == "bool" else "float32")
        sizes = (rows, heads[0], length, keys) if masked == "head" else (rows, 1, 1, keys)
        drawn = normal(*sizes, seed=3)
        drawn[..., 0] = 0.0
        inputs["mask"] = drawn > -0.5 if masked == "bool" else drawn * 3
    model = attention_model(*heads, mask=mask, causal=masked == "causal")
    given = torched(inputs)
    if masked == "bool":
        given["mask"] = torch.zeros(inputs["mask"].shape).masked_fill(~given["mask"], -torch.inf)
    wanted = ops.attention(**given, causal=masked == "causal", scale=0.3)
    assert rel_l2(run(model, inputs)["out"], wanted.numpy()) < 1e-6


def cached_model(heads: int, kept: int, *, window: int, softcap: float) -> ir.Model:
    cache, new = ("b", kept, "c", 4), ("b", kept, "l", 4)
    inputs = [
        value("query", ("b", heads, "l", 4)),
        value("key", new),
        value("value", new),
        value("past_key", cache),
        value("past_value", cache),
        value("position", ("b",), "int64"),
    ]
    outputs = [value("out", ("b", heads, "l", 4)), value("k", cache), value("v", cache)]
    return one("CachedAttention", inputs, outputs, scale=0.4, window=window, softcap=softcap)


def cached_inputs(
    rows: int, length: int, heads: tuple[int, int], *, capacity: int = 12, seed: int = 0
) -> dict[str, NDArray[Any]]:
    shape = rows, heads[1], capacity, 4
    return {
        "query": normal(rows, heads[0], length, 4, seed=seed),
        "key": normal(rows, heads[1], length, 4, seed=seed + 1),
        "value": normal(rows, heads[1], length, 4, seed=seed + 2),
        "past_key": normal(*shape, seed=seed + 3),
        "past_value": normal(*shape, seed=seed + 4),
        "position": np.random.default_rng(seed).integers(0, capacity - length + 1, rows),
    }


def cached_wanted(inputs: dict[str, NDArray[Any]], **options: Any) -> list[NDArray[Any]]:
    given = torched(inputs)
    past = given.pop("past_key"), given.pop("past_value")
    out, pair = ops.cached_attention(**given, past=past, scale=0.4, **options)
    return [each.numpy() for each in (out, *pair)]


@pytest.mark.parametrize("heads", [(2, 2), (6, 2), (9, 3)])
@pytest.mark.parametrize("options", [(0, 0.0), (3, 0.0), (0, 5.0), (1, 2.0)])
@pytest.mark.parametrize(("rows", "length"), SHAPES)
def test_cached_attention(
    rows: int, length: int, options: tuple[int, float], heads: tuple[int, int]
) -> None:
    window, softcap = options
    inputs = cached_inputs(rows, length, heads)
    found = run(cached_model(*heads, window=window, softcap=softcap), inputs)
    wanted = cached_wanted(inputs, window=window, softcap=softcap)
    for name, each in zip(("out", "k", "v"), wanted, strict=True):
        assert rel_l2(found[name], each) < 1e-6, name


@pytest.mark.parametrize("garbage", [1e30, -1e30, 7.0])
def test_what_lies_beyond_the_used_cache_changes_nothing(garbage: float) -> None:
    inputs = cached_inputs(3, 2, (4, 2))
    model = cached_model(4, 2, window=0, softcap=0.0)
    clean_answer = run(model, inputs)["out"]
    for row, position in enumerate(inputs["position"]):
        for name in ("past_key", "past_value"):
            inputs[name][row, :, position:] = garbage
    np.testing.assert_array_equal(run(model, inputs)["out"], clean_answer)


def test_cache_is_written_in_place_when_both_names_are_one_buffer() -> None:
    inputs = cached_inputs(2, 1, (4, 2))
    wanted = cached_wanted(inputs)
    opened = session(cached_model(4, 2, window=0, softcap=0.0))
    binding, held = opened.io_binding(), {}
    for name, array in inputs.items():
        held[name] = ort.OrtValue.ortvalue_from_numpy(array)
        binding.bind_ortvalue_input(name, held[name])
    binding.bind_output("out")
    binding.bind_ortvalue_output("k", held["past_key"])
    binding.bind_ortvalue_output("v", held["past_value"])
    opened.run_with_iobinding(binding)
    found = [binding.copy_outputs_to_cpu()[0], inputs["past_key"], inputs["past_value"]]
    for each, other in zip(found, wanted, strict=True):
        assert rel_l2(each, other) < 1e-6


def test_layers_share_positions_and_masks() -> None:
    """Of two layers the second adds products, writes and a softmax, no positions."""
    cache = ("b", 2, "c", 4)
    names = [f"{kind}{layer}" for layer in (0, 1) for kind in ("past_key", "past_value")]
    query, position = value("query", ("b", 2, "l", 4)), value("position", ("b",), "int64")
    pasts = [value(name, cache) for name in names]
    outs = [value(f"out{layer}", ("b", 2, "l", 4)) for layer in (0, 1)]
    presents = [value(f"new_{name}", cache) for name in names]
    nodes, x = [], query
    for layer in (0, 1):
        pair = pasts[2 * layer : 2 * layer + 2]
        node = ir.node(
            "CachedAttention",
            [x, x, x, *pair, position],
            {"scale": 0.4},
            domain="vlv",
            outputs=[outs[layer], *presents[2 * layer : 2 * layer + 2]],
        )
        nodes.append(node)
        x = outs[layer]
    graph = lowered(graph_of([query, position, *pasts], nodes, [x, *presents])).graph
    kinds = [node.op_type for node in graph]
    assert {op: kinds.count(op) for op in ("Range", "LessOrEqual", "Expand", "Softmax")} == {
        "Range": 2,
        "LessOrEqual": 1,
        "Expand": 1,
        "Softmax": 2,
    }
