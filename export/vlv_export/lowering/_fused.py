"""The `vlv` operations in onnxruntime's fused ones (domain com.microsoft), for int8 and int4.

What a fused operator cannot do is left to the portable form, node by node. Their inputs hold heads
side by side, (B, L, H D); the reshapes that this needs cancel against the graph's own in `_views`.
"""

import numpy as np
import onnx_ir as ir

from vlv_export.lowering._emit import MICROSOFT, Emitter, number, replace, width
from vlv_export.lowering._views import same_shape

INT32 = ir.DataType.INT32
HEAD_MULTIPLE = 8
"""GroupQueryAttention refuses head widths that are no multiple of this"""
ROTARY_MULTIPLE = 16
"""and turns heads itself only if their width and what is turned are multiples of this"""

WIDEST = 256
"""head width up to which MultiHeadAttention is faster than products; attention over channels, whose
width is the number of positions, is not"""


def fuse_caches(graph: ir.Graph) -> None:
    """CachedAttention, with the Rotary of its query and key, -> GroupQueryAttention."""
    emit = Emitter(graph)
    for node in tuple(graph):
        if node.op_type == "CachedAttention" and _fits(node):
            emit.anchor = node
            replace(node, _group_query_attention(emit, node))


def fuse_attention(graph: ir.Graph) -> None:
    """Attention with as many key heads as query heads -> MultiHeadAttention."""
    emit = Emitter(graph)
    for node in tuple(graph):
        if node.op_type == "Attention" and node.domain == "vlv":
            query, key = _given(node)[:2]
            wide = width(query, 3)
            if width(query, 1) == width(key, 1) and wide <= WIDEST:
                emit.anchor = node
                replace(node, [_multi_head_attention(emit, node)])


def fuse_norms(graph: ir.Graph) -> None:
    """A sum and its RMSNorm -> one node that answers both.

    Not so for LayerNormalization: the CPU's fused kernel takes three times as long as the two.
    """
    emit = Emitter(graph)
    for node in tuple(graph):
        if node.op_type == "RMSNorm" and node.graph is graph:
            added = node.inputs[0].producer() if node.inputs[0] is not None else None
            if added is not None and _is_skip(added, node):
                emit.anchor = added
                _skip_norm(emit, added, node)


def _fits(node: ir.Node) -> bool:
    query, _, value = _given(node)[:3]
    return width(query, 3) % HEAD_MULTIPLE == 0 and width(query, 3) == width(value, 3)


def _group_query_attention(emit: Emitter, node: ir.Node) -> list[ir.Value]:
    query, key, value, past_key, past_value, position = _given(node)
    tables: tuple[ir.Value, ...] = ()
    turned = _turned_alike(query, key, position)
    if turned is not None:
        query, key, tables = turned
    last, total = _lengths(emit, position, emit.size(query, 2))
    window = int(number(node, "window", 0))
    mixed, *present = emit.several(
        "GroupQueryAttention",
        3,
        *(_side_by_side(emit, each) for each in (query, key, value)),
        past_key,
        past_value,
        last,
        total,
        *tables,
        domain=MICROSOFT,
        num_heads=width(query, 1),
        kv_num_heads=width(key, 1),
        scale=number(node, "scale", 1.0),
        softcap=number(node, "softcap", 0.0),
        local_window_size=window or -1,
        do_rotary=int(turned is not None),
    )
    for new, past in zip(present, (past_key, past_value), strict=True):
        new.shape = past.shape
    return [_apart(emit, mixed, query, width(value, 3)), *present]


def _turned_alike(
    query: ir.Value, key: ir.Value, position: ir.Value
) -> tuple[ir.Value, ir.Value, tuple[ir.Value, ...]] | None:
    """Query and key before Rotary and its tables, if the fused operator can turn them itself."""
    nodes = query.producer(), key.producer()
    if any(node is None or node.op_type != "Rotary" for node in nodes):
        return None
    first, second = (_given(node) for node in nodes if node is not None)
    half = width(first[2], 1)
    alike = first[1:] == second[1:] and first[1] is position
    whole = width(query, 3) % ROTARY_MULTIPLE == 0 and 2 * half % ROTARY_MULTIPLE == 0
    return (first[0], second[0], tuple(first[2:])) if alike and whole else None


def _lengths(emit: Emitter, position: ir.Value, length: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Index (B,) of each row's last new token, and the longest row's length, as int32."""
    ends = emit("Add", position, length)
    last = emit("Sub", ends, emit.constant([1]))
    longest = emit("ReduceMax", ends, keepdims=0, shape=[])
    last, longest = (
        emit("Cast", each, dtype=INT32, shape=each.shape, to=INT32) for each in (last, longest)
    )
    return last, longest


def _multi_head_attention(emit: Emitter, node: ir.Node) -> ir.Value:
    query, key, value, *masks = _given(node)
    bias = _bias(emit, masks[0], query, key) if masks else None
    mixed = emit(
        "MultiHeadAttention",
        *(_side_by_side(emit, each) for each in (query, key, value)),
        *((None, None, bias) if bias is not None else ()),
        domain=MICROSOFT,
        num_heads=width(query, 1),
        scale=number(node, "scale", 1.0),
        unidirectional=int(number(node, "causal", 0)),
    )
    return _apart(emit, mixed, query, width(value, 3))


def _bias(emit: Emitter, mask: ir.Value, query: ir.Value, key: ir.Value) -> ir.Value:
    """An additive mask (B or 1, H or 1, L, S): its last two axes may not be broadcast."""
    if mask.dtype == ir.DataType.BOOL:
        never = emit.constant(np.finfo(np.float32).min, np.float32)
        nought = emit.constant(0.0, np.float32)
        mask = emit("Where", mask, nought, never, dtype=query.dtype, shape=mask.shape)
    one = emit.constant([1])
    extent = emit("Concat", one, one, emit.size(query, 2), emit.size(key, 2), axis=0)
    return emit("Expand", mask, extent)


def _is_skip(added: ir.Node, norm: ir.Node) -> bool:
    """Whether the addition is of two variables of one shape, over whose last axis norm goes."""
    if added.op_type != "Add" or added.graph is None or len(norm.outputs) > 1:
        return False
    a, b = added.inputs
    if a is None or b is None or a.const_value is not None or b.const_value is not None:
        return False
    rank = len(a.shape) if a.shape is not None else 0
    last = number(norm, "axis", -1) in (-1, rank - 1)
    return last and rank in (2, 3) and same_shape(a, b)


def _skip_norm(emit: Emitter, added: ir.Node, norm: ir.Node) -> None:
    normed, mean, deviation, total = emit.several(
        "SkipSimplifiedLayerNormalization",
        4,
        *added.inputs,
        *norm.inputs[1:],
        domain=MICROSOFT,
        shape=added.outputs[0].shape,
        epsilon=number(norm, "eps", 0.0),
    )
    mean.name = deviation.name = ""
    replace(norm, [normed])
    replace(added, [total])


def _side_by_side(emit: Emitter, value: ir.Value) -> ir.Value:
    """(B, H, L, D) -> (B, L, H D)."""
    assert value.shape is not None
    rows, heads, length, wide = value.shape
    assert isinstance(heads, int) and isinstance(wide, int)
    turned = emit("Transpose", value, perm=[0, 2, 1, 3], shape=[rows, length, heads, wide])
    flat = emit.constant([0, 0, heads * wide])
    return emit("Reshape", turned, flat, shape=[rows, length, heads * wide])


def _apart(emit: Emitter, mixed: ir.Value, query: ir.Value, wide: int) -> ir.Value:
    """(B, L, H D) -> (B, H, L, D)."""
    assert query.shape is not None
    rows, heads, length, _ = query.shape
    assert isinstance(heads, int)
    mixed.shape = ir.Shape([rows, length, heads * wide])
    split = emit(
        "Reshape", mixed, emit.constant([0, 0, heads, wide]), shape=[rows, length, heads, wide]
    )
    return emit("Transpose", split, perm=[0, 2, 1, 3], shape=[rows, heads, length, wide])


def _given(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value is not None]
