"""The three graphs of a package, cut out of a variant's encoder and head.

They are cut when they have been lowered, so that a table which the head both gathers from and
multiplies with stays one.

Shape legend: B rows, K rows of the prefix, T new tokens, N tokens so far, Dl width, S edge of the
encoder's pixels.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from vlv_core.errors import UsageError
from vlv_export.genai.config import Decoder
from vlv_export.genai.placeholders import Placeholders
from vlv_export.lowering._cleanup import drop_unused
from vlv_export.lowering._emit import INT64, Emitter, width

BOOL, FLOAT, UINT8 = ir.DataType.BOOL, ir.DataType.FLOAT, ir.DataType.UINT8


def vision(encoder: ir.Model) -> ir.Model:
    """pixel_values (1, B, 3, S, S), numbers 0 .. 255 -> image_features (B K, Dl).

    The order of axes is what GenAI's processor gives.
    """
    graph = encoder.graph
    view, prefix = graph.inputs[0], _named(graph.outputs, "prefix")
    size, dim = width(view, 1), width(prefix, 2)
    pixels = _value("pixel_values", FLOAT, ["one", "batch", 3, size, size])
    emit = _begin(graph, [pixels])
    rows = emit("Reshape", pixels, emit.constant([-1, 3, size, size]))
    rows = emit("Round", emit("Transpose", rows, perm=[0, 2, 3, 1]))
    taken = emit("Cast", rows, to=UINT8, dtype=UINT8, shape=view.shape)
    ir.convenience.replace_all_uses_with(view, taken)
    features = _flat(emit, prefix, dim)
    return _finished(encoder, [features], name="vision")


def _flat(emit: Emitter, prefix: ir.Value, dim: int) -> ir.Value:
    prefix.name = None
    emit.anchor = emit.graph[-1]
    features = emit("Reshape", prefix, emit.constant([-1, dim]), shape=["rows", dim])
    features.name = "image_features"
    return features


def embedding(head: ir.Model, placeholders: Placeholders) -> ir.Model:
    """input_ids (B, T), image_features (B K, Dl) -> inputs_embeds (B, T, Dl).

    Placeholders take the features in order; while words are said there are neither.
    """
    graph = head.graph
    joined = _joined(graph)
    tokens, words = _named(graph.inputs, "tokens"), joined.inputs[1]
    assert words is not None
    dim = width(joined.outputs[0], 2)
    ids = _value("input_ids", INT64, ["batch", "length"])
    features = _value("image_features", FLOAT, ["rows", dim])
    emit = _begin(graph, [ids, features])
    known = emit("Less", ids, emit.constant(placeholders.vocab_size), dtype=BOOL)
    safe = emit("Where", known, ids, emit.constant(0), dtype=INT64, shape=ids.shape)
    ir.convenience.replace_all_uses_with(tokens, safe)
    emit.anchor = graph[-1]
    words = _as(emit, words, FLOAT)
    at = emit("Transpose", emit("NonZero", emit("Not", known), dtype=INT64), perm=[1, 0])
    spliced = emit("ScatterND", words, at, features, shape=["batch", "length", dim])
    spliced.name = "inputs_embeds"
    return _finished(head, [spliced], name="embedding")


def decoder(head: ir.Model, placeholders: Placeholders) -> ir.Model:
    """inputs_embeds (B, T, Dl), attention_mask (B, N), cache -> logits (B, 1, V + placeholders).

    GenAI's mask has a column for every token so far, which is all that is read of it: rows of one
    batch are equally long. Placeholders are never said: their logits are -inf.
    """
    graph = head.graph
    joined = _joined(graph)
    dim = width(joined.outputs[0], 2)
    embeds = _value("inputs_embeds", FLOAT, ["batch", "new", dim])
    mask = _value("attention_mask", INT64, ["batch", "total"])
    past = [each for each in graph.inputs if (each.name or "").startswith("past.")]
    present = [each for each in graph.outputs if (each.name or "").startswith("present.")]
    prefix, tokens, position = (
        _named(graph.inputs, name) for name in ("prefix", "tokens", "position")
    )
    _drop_words(_begin(graph, [embeds, mask, *past]), joined, embeds)
    emit = _begin(graph, graph.inputs)
    _leave_sizes(tokens, _nothing(emit, embeds, like=tokens))
    _leave_sizes(prefix, embeds)
    start = emit("Sub", emit.size(mask, 1), emit.size(embeds, 1))
    start = emit("Expand", start, emit.size(embeds, 0), shape=["batch"])
    ir.convenience.replace_all_uses_with(position, start)
    logits = _said(emit, _named(graph.outputs, "logits"), extra=len(placeholders.tokens))
    return _finished(head, [logits, *present], name="decoder")


def _drop_words(emit: Emitter, joined: ir.Node, embeds: ir.Value) -> None:
    """Put `embeds` in the place of prefix and words, joined."""
    words = joined.inputs[1]
    assert words is not None
    taken = _as(emit, embeds, joined.outputs[0].dtype)
    none = _nothing(emit, embeds, like=words)
    ir.convenience.replace_all_uses_with(joined.outputs[0], taken)
    emit.graph.remove(joined, safe=True)
    _leave_sizes(words, none)
    drop_unused(emit.graph)


def _nothing(emit: Emitter, embeds: ir.Value, *, like: ir.Value) -> ir.Value:
    """As many rows as `embeds`, none long: the head reads no tokens any more, but their number
    takes part in its sizes."""
    assert like.shape is not None
    widths = [width(like, axis) for axis in range(2, len(like.shape))]
    extent = emit("Concat", emit.size(embeds, 0), emit.constant([0, *widths]), axis=0)
    shape = ["batch", 0, *widths]
    return emit("ConstantOfShape", extent, dtype=FLOAT, shape=shape)


def _leave_sizes(value: ir.Value, instead: ir.Value) -> None:
    """Measure `instead` wherever `value` was measured. Raises UsageError if it was read, too."""
    if any(node.op_type != "Shape" for node, _ in value.uses()):
        raise UsageError(
            f"the head reads its {value.name} in two places, so it cannot be cut in two",
            hint="export it with --onnx",
        )
    ir.convenience.replace_all_uses_with(value, instead)


def _said(emit: Emitter, logits: ir.Value, *, extra: int) -> ir.Value:
    size = width(logits, 1)
    logits.name = None
    emit.anchor = emit.graph[-1]
    rows = emit("Unsqueeze", logits, emit.constant([1]))
    never = emit.constant(-np.inf, np.float32)
    padded = emit("Pad", rows, emit.constant([0, 0, 0, 0, 0, extra]), never)
    padded.name, padded.shape = "logits", ir.Shape(["batch", 1, size + extra])
    return padded


def sizes(head: ir.Model, *, max_length: int) -> Decoder:
    """Of the head's neutral graph, whose operations tell them.

    Raises UsageError for layers that differ: GenAI has one size.
    """
    graph = head.graph
    layers = [node for node in graph if node.op_type == "CachedAttention"]
    found = {(width(node.inputs[0], 1), *_cache_size(node)) for node in layers}  # type: ignore[arg-type]
    if len(found) != 1:
        raise UsageError(
            f"the head's layers keep caches of {len(found)} sizes, and ONNX Runtime GenAI has one "
            "for all",
            hint="export it with --onnx",
        )
    heads, cache_heads, head_width = found.pop()
    return Decoder(
        dim=width(_named(graph.inputs, "prefix"), 2),
        layers=len(layers),
        heads=heads,
        cache_heads=cache_heads,
        head_width=head_width,
        max_length=max_length,
    )


def _cache_size(node: ir.Node) -> tuple[int, int]:
    past = node.inputs[3]
    assert past is not None
    return width(past, 1), width(past, 3)


def _joined(graph: ir.Graph) -> ir.Node:
    """Where the head puts its words after the prefix. Raises UsageError if it does not so."""
    prefix = _named(graph.inputs, "prefix")
    for node in graph:
        if node.op_type == "Concat" and len(node.inputs) == 2 and _comes_from(node, prefix):
            return node
    raise UsageError(
        "the head does not put its words right after its prefix, so it cannot be cut in two",
        hint="export it with --onnx",
    )


def _comes_from(node: ir.Node, prefix: ir.Value) -> bool:
    """Whether its first input is the prefix, in whatever precision."""
    first = node.inputs[0]
    assert first is not None
    cast = first.producer()
    return first is prefix or (
        cast is not None and cast.op_type == "Cast" and cast.inputs[0] is prefix
    )


def _as(emit: Emitter, value: ir.Value, dtype: ir.DataType | None) -> ir.Value:
    if value.dtype == dtype:
        return value
    return emit("Cast", value, to=dtype, dtype=dtype, shape=value.shape)


def _begin(graph: ir.Graph, inputs: Sequence[ir.Value]) -> Emitter:
    """Makes nodes at the start of the graph, which has these inputs from now on."""
    graph.inputs[:] = list(inputs)
    emit = Emitter(graph)
    emit.anchor = graph[0]
    return emit


def _finished(model: ir.Model, outputs: Sequence[ir.Value], *, name: str) -> ir.Model:
    """The model with these outputs, and without what they do not need.

    Raises UsageError if it still needs an input that it no longer has.
    """
    graph = model.graph
    graph.name = name
    graph.sort()
    graph.outputs.clear()
    graph.outputs.extend(outputs)
    common.RemoveUnusedNodesPass()(model)
    used = {value for node in graph for value in node.inputs if value is not None}
    lost = [str(each.name) for each in used if each.producer() is None and each.graph is None]
    if lost:
        raise UsageError(
            f"the head needs its {', '.join(sorted(lost))} elsewhere than ONNX Runtime GenAI gives "
            "them",
            hint="export it with --onnx",
        )
    common.NameFixPass()(model)
    return model


def _named(values: Iterable[ir.Value], name: str) -> ir.Value:
    return next(value for value in values if value.name == name)


def _value(name: str, dtype: ir.DataType, shape: Sequence[int | str]) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))
