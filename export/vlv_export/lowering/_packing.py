"""Fewer, larger products in front of fused attention and gated layers."""

import numpy as np
import onnx_ir as ir

from vlv_export.lowering._emit import MICROSOFT, Emitter, replace
from vlv_export.lowering._linear import Linear, joined_product, lazily, linear_of, numbers


def pack_attention(graph: ir.Graph) -> None:
    """Query, key and value of a GroupQueryAttention: one product, biases too, never split."""
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
        packed = joined_product(emit, found)
        biases = [each.bias for each in found if each.bias is not None]
        if biases:
            packed = emit("Add", packed, _joined_bias(emit, biases), shape=packed.shape)
        node.replace_input_with(0, packed)
        node.replace_input_with(1, None)
        node.replace_input_with(2, None)


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


def _joined_bias(emit: Emitter, biases: list[ir.Value]) -> ir.Value:
    size = sum(numbers(bias).size for bias in biases)
    tensor = lazily(
        lambda: np.concatenate([numbers(bias) for bias in biases]),
        dtype=ir.DataType.FLOAT,
        shape=(size,),
    )
    return emit.initializer("+".join(str(bias.name) for bias in biases), tensor)
