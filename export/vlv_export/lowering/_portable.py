"""The `vlv` operations in standard operators of opset 20: runs on any runtime.

Each function replaces one node; what layers have in common (positions, masks, rows of tables) is
made by equal nodes, which the clean-up merges. Shape legend as in `vlv_core.ops`.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from vlv_export.lowering._emit import Emitter, number, replace, width

BOOL, FLOAT = ir.DataType.BOOL, ir.DataType.FLOAT


def lower(emit: Emitter, node: ir.Node) -> None:
    """Replace one `vlv` node."""
    emit.anchor = node
    replace(node, PORTABLE[node.op_type](emit, node))


def rms_norm(emit: Emitter, node: ir.Node) -> list[ir.Value]:
    """x / sqrt(mean(x^2) + eps) * weight, in the order of nodes that onnxruntime fuses."""
    x, weight = inputs(node, 2)
    emit.wide = True
    square = emit("Pow", x, emit.constant(2.0, np.float32))
    mean = emit("ReduceMean", square, emit.constant([-1]), keepdims=1)
    root = emit("Sqrt", emit("Add", mean, emit.constant(number(node, "eps", 0.0), np.float32)))
    normed = emit("Mul", emit("Div", x, root), weight, shape=x.shape)
    emit.wide = False
    return [normed]


def rotary(emit: Emitter, node: ir.Node) -> list[ir.Value]:
    """The first R of D numbers of x (B, H, L, D) turned, halves paired."""
    x, position, *tables = inputs(node, 4)
    half, rest = width(tables[0], 1), width(x, 3) - 2 * width(tables[0], 1)
    steps = positions(emit, position, emit.size(x, 2))
    cos, sin = (
        emit("Unsqueeze", emit("Gather", table, steps, axis=0), emit.constant([1]))
        for table in tables
    )
    sizes = emit.constant([half, half, rest] if rest else [half, half])
    first, second, *left = emit.several("Split", 3 if rest else 2, x, sizes, axis=-1)
    turned = (
        emit("Sub", emit("Mul", first, cos), emit("Mul", second, sin)),
        emit("Add", emit("Mul", second, cos), emit("Mul", first, sin)),
    )
    return [emit("Concat", *turned, *left, axis=-1, shape=x.shape)]


def attention(emit: Emitter, node: ir.Node) -> list[ir.Value]:
    """softmax(scale q k^T + mask) v; key heads are shared by rows, not by copies."""
    query, key, value, *masks = inputs(node, 3)
    mask = masks[0] if masks else None
    shared = 1 if mask is None else width(query, 1) // width(key, 1)
    if shared > 1:
        key, value = (_repeated(emit, each, shared) for each in (key, value))
    causal = bool(number(node, "causal", 0))
    groups = width(query, 1) // width(key, 1)
    scores = _scores(emit, query, key, number(node, "scale", 1.0))
    emit.wide = True
    if causal:
        length = emit.size(query, 2)
        own, slots = _grouped(emit, emit.range(length), length, groups), emit.range(length)
        seen = emit("LessOrEqual", slots, emit("Unsqueeze", own, emit.constant([1])), dtype=BOOL)
        scores = emit("Where", seen, scores, _never(emit), dtype=FLOAT)
    if mask is not None and mask.dtype == BOOL:
        scores = emit("Where", mask, scores, _never(emit), dtype=FLOAT)
    elif mask is not None:
        scores = emit("Add", scores, mask)
    weights = emit("Softmax", scores, axis=-1)
    emit.wide = False
    return [_mixed(emit, weights, value, query)]


def cached_attention(emit: Emitter, node: ir.Node) -> list[ir.Value]:
    """Write key and value into the cache, in place if its output is bound to its input's buffer.

    A row sees at least itself, so that no softmax is over nothing. What it does not see takes no
    part whatever (finite) numbers it holds.
    """
    query, key, value, past_key, past_value, position = inputs(node, 6)
    steps = positions(emit, position, emit.size(query, 2))
    index = emit("Unsqueeze", steps, emit.constant([1, 3]))
    # Written out before the expansion: an index of the new rows alone, not of the whole cache.
    extent = emit("Concat", *(emit.size(key, axis) for axis in range(4)), axis=0)
    index = emit("Expand", index, extent)
    keys, values = (
        emit("ScatterElements", past, index, new, axis=2, shape=past.shape)
        for past, new in ((past_key, key), (past_value, value))
    )
    return [attend_to_cache(emit, node, keys, values), keys, values]


def attend_to_cache(
    emit: Emitter, node: ir.Node, keys: ir.Value, values: ir.Value, *, never: float = -np.inf
) -> ir.Value:
    """What a CachedAttention answers once its cache is written; `never` is an unseen score."""
    query, position = node.inputs[0], node.inputs[5]
    assert query is not None and position is not None
    length = emit.size(query, 2)
    scores = _scores(emit, query, keys, number(node, "scale", 1.0))
    emit.wide = True
    softcap = number(node, "softcap", 0.0)
    if softcap:
        limit = emit.constant(softcap, np.float32)
        scores = emit("Mul", emit("Tanh", emit("Div", scores, limit)), limit)
    groups = width(query, 1) // width(keys, 1)
    own = _grouped(emit, positions(emit, position, length), length, groups)
    visible = seen(emit, own, emit.size(keys, 2), window=int(number(node, "window", 0)))
    hidden = emit.constant(never, np.float32)
    weights = emit("Softmax", emit("Where", visible, scores, hidden, dtype=FLOAT), axis=-1)
    emit.wide = False
    return _mixed(emit, weights, values, query)


def positions(emit: Emitter, position: ir.Value, length: ir.Value) -> ir.Value:
    """(B, L): where each row's new tokens stand."""
    start = emit("Unsqueeze", position, emit.constant([1]))
    return emit("Add", start, emit.range(length), shape=[None, None])


def seen(emit: Emitter, own: ir.Value, capacity: ir.Value, *, window: int) -> ir.Value:
    """(B, 1, N, C): which slots each query at `own` (B, N) sees."""
    own = emit("Unsqueeze", own, emit.constant([1, 3]))
    slots = emit.range(capacity)
    visible = emit("LessOrEqual", slots, own, dtype=BOOL)
    if window:
        oldest = emit("Sub", own, emit.constant(window))
        visible = emit("And", visible, emit("Greater", slots, oldest, dtype=BOOL), dtype=BOOL)
    return visible


def _scores(emit: Emitter, query: ir.Value, key: ir.Value, scale: float) -> ir.Value:
    """(B, Hkv, G L, S) of queries (B, Hkv G, L, D): G query heads are rows of one product."""
    heads, groups = width(key, 1), width(query, 1) // width(key, 1)
    rows = emit("Mul", query, emit.constant(scale, np.float32))
    if groups > 1:
        rows = emit("Reshape", rows, emit.constant([0, heads, -1, width(query, 3)]))
    return emit("MatMul", rows, emit("Transpose", key, perm=[0, 1, 3, 2]))


def _mixed(emit: Emitter, weights: ir.Value, value: ir.Value, query: ir.Value) -> ir.Value:
    """(B, H, L, D): values weighted, heads apart again."""
    mixed = emit("MatMul", weights, value)
    if width(query, 1) == width(value, 1):
        return mixed
    return emit("Reshape", mixed, emit.constant([0, width(query, 1), -1, width(value, 3)]))


def _grouped(emit: Emitter, rows: ir.Value, length: ir.Value, groups: int) -> ir.Value:
    """rows (..., L) repeated for G query heads: (..., G L)."""
    if groups == 1:
        return rows
    return emit("Concat", *[rows] * groups, axis=-1)


def _repeated(emit: Emitter, key: ir.Value, groups: int) -> ir.Value:
    """(B, Hkv, S, D) -> (B, G Hkv, S, D); only for masks that differ by query head."""
    heads, wide = width(key, 1), width(key, 3)
    five = emit("Unsqueeze", key, emit.constant([2]))
    copies = emit("Concat", *[five] * groups, axis=2)
    shape = [key.shape[0], heads * groups, key.shape[2], wide] if key.shape else None
    return emit("Reshape", copies, emit.constant([0, heads * groups, -1, wide]), shape=shape)


def _never(emit: Emitter) -> ir.Value:
    return emit.constant(-np.inf, np.float32)


def inputs(node: ir.Node, least: int) -> list[ir.Value]:
    """The node's inputs that are there."""
    given = [value for value in node.inputs if value is not None]
    assert len(given) >= least, f"{node.op_type} has {len(given)} inputs"
    return given


PORTABLE: dict[str, Callable[[Emitter, ir.Node], list[ir.Value]]] = {
    "Attention": attention,
    "CachedAttention": cached_attention,
    "Rotary": rotary,
    "RMSNorm": rms_norm,
}
