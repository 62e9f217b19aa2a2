"""Attention as engines take it: TensorScatter into a static cache, then Attention of opset 24.

What TensorRT's importer does decides the forms. It multiplies query and key by the root of `scale`
in their own type: `scale` is therefore a power of 4, whose root is exact, and the query takes the
rest. It reads no softcap, so that capped scores are made of products. Masks are added, finite, and
hide no row wholly: a kernel that works in tiles would divide nothing by nothing.
Shape legend as in `vlv_core.ops`.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import onnx_ir as ir

from vlv_export.lowering import _portable as portable
from vlv_export.lowering._emit import Emitter, number, replace

BOOL, FLOAT = ir.DataType.BOOL, ir.DataType.FLOAT
NEVER = {"fp32": -1e30, "fp16": float(np.finfo(np.float16).min) / 2, "bf16": -1e30}
"""dtype -> what is added to the score of a slot that is not seen: far below any score, and finite
with a score added to it"""


def lower_for_engine(graph: ir.Graph, dtype: str) -> None:
    """Replace all `vlv` nodes."""
    emit, never = Emitter(graph), NEVER[dtype]
    forms: dict[str, Callable[[Emitter, ir.Node], list[ir.Value]]] = {
        **portable.PORTABLE,
        "Attention": partial(attention, never=never),
        "CachedAttention": partial(cached_attention, never=never),
    }
    for node in tuple(graph):
        if node.domain == "vlv":
            emit.anchor = node
            replace(node, forms[node.op_type](emit, node))


def attention(emit: Emitter, node: ir.Node, *, never: float) -> list[ir.Value]:
    """softmax(scale q k^T + mask) v.

    `is_causal` stands alone: lengths are equal, so that both of its alignments are one, and
    compilers refuse it beside a mask.
    """
    query, key, value, *masks = portable.inputs(node, 3)
    causal = bool(number(node, "causal", 0))
    mask = _finite(emit, _lengthened(emit, masks[0], query), never) if masks else None
    if mask is not None and causal:
        steps = emit.range(emit.size(query, 2))
        own = emit("Unsqueeze", steps, emit.constant([1]))
        past = emit("LessOrEqual", steps, own, dtype=BOOL)
        mask = _chosen(emit, past, mask, never)
    scale = number(node, "scale", 1.0)
    return [_attend(emit, query, key, value, mask, scale, causal=causal and mask is None)]


def cached_attention(emit: Emitter, node: ir.Node, *, never: float) -> list[ir.Value]:
    """Write key and value into the cache, in place if its output is bound to its input's buffer."""
    query, key, value, past_key, past_value, position = portable.inputs(node, 6)
    keys, values = (
        emit("TensorScatter", past, new, position, axis=2, mode="linear", shape=past.shape)
        for past, new in ((past_key, key), (past_value, value))
    )
    if number(node, "softcap", 0.0):
        return [portable.attend_to_cache(emit, node, keys, values, never=never), keys, values]
    own = portable.positions(emit, position, emit.size(query, 2))
    capacity = emit.size(past_key, 2)
    visible = portable.seen(emit, own, capacity, window=int(number(node, "window", 0)))
    mask = _chosen(emit, visible, emit.constant(0.0, np.float32), never)
    scale = number(node, "scale", 1.0)
    return [_attend(emit, query, keys, values, mask, scale), keys, values]


def _attend(
    emit: Emitter,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    mask: ir.Value | None,
    scale: float,
    *,
    causal: bool = False,
) -> ir.Value:
    exact = _power_of_4(scale)
    query = _scaled(emit, query, scale / exact)
    shape = [*query.shape[:3], value.shape[3]] if query.shape and value.shape else None
    given = (query, key, value) if mask is None else (query, key, value, mask)
    return emit("Attention", *given, is_causal=int(causal), scale=exact, shape=shape)


def _power_of_4(scale: float) -> float:
    """The largest one that is at most `scale`, and less than 1.

    A factor of 1 would vanish from the keys: the compiler then copies the cache at every step.
    """
    return 4.0 ** min(math.floor(math.log(scale, 4) + 1e-9), -1)


def _scaled(emit: Emitter, query: ir.Value, scale: float) -> ir.Value:
    """Query times scale, in float32 where rounding the scale would shift every score."""
    if scale == 1.0:
        return query
    emit.wide = math.frexp(scale)[0] != 0.5
    scaled = emit("Mul", query, emit.constant(scale, np.float32), shape=query.shape)
    emit.wide = False
    return scaled


def _lengthened(emit: Emitter, mask: ir.Value, query: ir.Value) -> ir.Value:
    """A mask that all queries share, once for each: runtimes do not broadcast that axis."""
    assert mask.shape is not None and query.shape is not None
    if mask.shape[-2] == query.shape[2]:
        return mask
    extent = emit("Concat", emit.size(query, 2), emit.constant([1]), axis=0)
    shape = [*mask.shape[:-2], query.shape[2], mask.shape[-1]]
    return emit("Expand", mask, extent, shape=shape)


def _finite(emit: Emitter, mask: ir.Value, never: float) -> ir.Value:
    """A mask to be added, whatever its kind."""
    if mask.dtype == BOOL:
        return _chosen(emit, mask, emit.constant(0.0, np.float32), never)
    emit.wide = True
    finite = emit("Max", mask, emit.constant(never, np.float32), shape=mask.shape)
    emit.wide = False
    return finite


def _chosen(emit: Emitter, seen: ir.Value, mask: ir.Value, never: float) -> ir.Value:
    """`mask` where `seen`, and never elsewhere."""
    emit.wide = True
    chosen = emit("Where", seen, mask, emit.constant(never, np.float32), dtype=FLOAT)
    emit.wide = False
    return chosen
