"""Fewer, larger products in front of fused attention and gated layers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from vlv_export.lowering._emit import MICROSOFT, Emitter, number, replace, replace_value, width
from vlv_export.lowering._linear import Linear, joined_product, lazily, linear_of, numbers


def pack_attention(graph: ir.Graph) -> None:
    """Query, key and value of a GroupQueryAttention: one product, biases too, never split.

    The scores' scale goes into the query's weights: kernels are faster where it is 1.
    """
    emit = Emitter(graph)
    for node in graph:
        if node.op_type != "GroupQueryAttention":
            continue
        projections = [_projection(value) for value in node.inputs[:3]]
        found = [each for each in projections if each is not None]
        if len(found) < 3 or len({each.x for each in found}) > 1:
            continue
        if len({each.bias is None for each in found}) > 1:
            continue
        # Before the attention, where every one of the three would be ready.
        emit.anchor = node
        factors = (number(node, "scale", 1.0), 1.0, 1.0)
        node.attributes["scale"] = ir.AttrFloat32("scale", 1.0)
        packed = joined_product(emit, found, factors=factors)
        biases = [each.bias for each in found if each.bias is not None]
        if biases:
            joined = _joined_bias(emit, biases, factors)
            packed = emit("Add", packed, joined, shape=packed.shape)
        node.replace_input_with(0, packed)
        node.replace_input_with(1, None)
        node.replace_input_with(2, None)


def split_projections(graph: ir.Graph) -> None:
    """A product that is split at once: one product for each part, so that nothing is copied.

    Both spellings of vision transformers: Split of the columns; Reshape to (B, N, 3, H, D),
    Transpose to (3, B, H, N, D), and a Slice with Squeeze for each of the three.
    """
    emit = Emitter(graph)
    for node in tuple(graph):
        found = _projection(node.inputs[0]) if node.op_type in ("Split", "Reshape") else None
        if found is None:
            continue
        emit.anchor = node
        if node.op_type == "Split":
            _split_columns(emit, node, found)
        else:
            _split_heads(emit, node, found)


def _split_columns(emit: Emitter, node: ir.Node, whole: Linear) -> None:
    rank = len(node.outputs[0].shape or ())
    if number(node, "axis", 0) not in (-1, rank - 1):
        return
    start = 0
    for out in tuple(node.outputs):
        end = start + width(out, rank - 1)
        made = _columns(emit, whole, start, end, out.shape)
        replace_value(out, made)
        start = end


def _split_heads(emit: Emitter, node: ir.Node, whole: Linear) -> None:
    users = [use.node for use in node.outputs[0].uses()]
    five = node.outputs[0].shape
    if len(users) != 1 or users[0].op_type != "Transpose" or five is None or len(five) != 5:
        return
    perm = list(users[0].attributes["perm"].value)
    picks = [_pick(use.node) for use in users[0].outputs[0].uses()]
    picked = [each for each in picks if each is not None]
    count, heads, wide = five[2], five[3], five[4]
    if perm[0] != 2 or len(picked) < len(picks) or not isinstance(count, int):
        return
    assert isinstance(heads, int) and isinstance(wide, int)
    size = heads * wide
    for index, out in picked:
        y = _columns(emit, whole, index * size, (index + 1) * size, [*five[:2], size])
        lengths = [emit.size(whole.x, 0), emit.size(node.outputs[0], 1)]
        extent = emit("Concat", *lengths, emit.constant([heads, wide]), axis=0)
        four = emit("Reshape", y, extent, shape=[*five[:2], heads, wide])
        turned = [axis - (axis > 2) for axis in perm[1:]]
        made = emit("Transpose", four, perm=turned, shape=out.shape)
        replace_value(out, made)


def _pick(node: ir.Node) -> tuple[int, ir.Value] | None:
    """Which of the first axis a Slice and a Squeeze, or a Gather, take, and what they answer."""
    if node.op_type == "Gather" and number(node, "axis", 0) == 0:
        index = node.inputs[1]
        one = index is not None and index.const_value is not None and index.const_value.size == 1
        return (int(numbers(index).item()), node.outputs[0]) if one and index else None
    if node.op_type != "Slice" or any(each is None for each in node.inputs[1:4]):
        return None
    start, end, axes = (each for each in node.inputs[1:4] if each is not None)
    users = [use.node for use in node.outputs[0].uses()]
    if any(each.const_value is None for each in (start, end, axes)) or len(users) != 1:
        return None
    first = int(numbers(start).item())
    whole = numbers(axes).item() == 0 and numbers(end).item() == first + 1
    return (first, users[0].outputs[0]) if whole and users[0].op_type == "Squeeze" else None


def _columns(
    emit: Emitter, whole: Linear, start: int, end: int, shape: Sequence[Any] | ir.Shape | None
) -> ir.Value:
    """x times some columns of a weight, their bias added."""
    weight, bias, rows = whole.weight, whole.bias, whole.sizes[0]
    part = lazily(
        lambda: numbers(weight)[:, start:end], dtype=ir.DataType.FLOAT, shape=(rows, end - start)
    )
    name = f"{weight.name}.{start}"
    product = emit("MatMul", whole.x, emit.initializer(name, part), shape=shape)
    if bias is None:
        return product
    added = lazily(lambda: numbers(bias)[start:end], dtype=ir.DataType.FLOAT, shape=(end - start,))
    return emit("Add", product, emit.initializer(f"{bias.name}.{start}", added), shape=shape)


def fuse_silu(graph: ir.Graph) -> None:
    """x sigmoid(x) -> QuickGelu with alpha 1."""
    emit = Emitter(graph)
    for node in tuple(graph):
        if node.op_type != "Mul" or node.domain:
            continue
        for x, gate in (node.inputs, tuple(reversed(node.inputs))):
            made = gate.producer() if gate is not None else None
            if made is not None and made.op_type == "Sigmoid" and made.inputs[0] is x:
                emit.anchor = node
                shape = node.outputs[0].shape
                replace(node, [emit("QuickGelu", x, domain=MICROSOFT, shape=shape, alpha=1.0)])
                break


def _projection(value: ir.Value | None) -> Linear | None:
    """The product, with the bias added to it, that alone makes a value."""
    node = value.producer() if value is not None else None
    if value is None or node is None or len(value.uses()) > 1:
        return None
    if node.op_type == "MatMul":
        return linear_of(node)
    if node.op_type != "Add":
        return None
    for product, bias in (node.inputs, tuple(reversed(node.inputs))):
        if product is None or bias is None or bias.const_value is None:
            continue
        inner = _projection(product)
        if inner is not None and inner.bias is None and len(bias.shape or ()) == 1:
            return Linear(inner.node, inner.x, inner.weight, False, bias)
    return None


def _joined_bias(emit: Emitter, biases: Sequence[ir.Value], factors: Sequence[float]) -> ir.Value:
    size = sum(numbers(bias).size for bias in biases)
    tensor = lazily(
        lambda: np.concatenate(
            [numbers(bias) * np.float32(by) for bias, by in zip(biases, factors, strict=True)]
        ),
        dtype=ir.DataType.FLOAT,
        shape=(size,),
    )
    return emit.initializer("+".join(str(bias.name) for bias in biases), tensor)
