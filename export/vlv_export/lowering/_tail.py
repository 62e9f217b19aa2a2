"""The end of the head: the k best tokens and their log-probabilities, so that few numbers leave."""

import onnx_ir as ir

from vlv_export.lowering._emit import INT64, Emitter


def add_tail(graph: ir.Graph) -> None:
    """logits (B, V) -> top_log_probs (B, k), top_ids (B, k), logits; adds the input k (1,).

    Logits decide the order; probabilities are over the whole vocabulary and in float32.
    """
    logits = next(value for value in graph.outputs if value.name == "logits")
    last = logits.producer()
    assert last is not None
    k = ir.Value(name="k", shape=ir.Shape([1]), type=ir.TensorType(INT64))
    _insert_input(graph, k)
    emit = Emitter(graph)
    emit.anchor, emit.wide = list(graph)[-1], True
    top = [logits.shape[0] if logits.shape else None, "k"]
    _, ids = emit.several("TopK", 2, logits, k, axis=-1, largest=1, sorted=1, shape=top)
    ids.type = ir.TensorType(INT64)
    chances = emit("GatherElements", emit("LogSoftmax", logits, axis=-1), ids, axis=-1, shape=top)
    chances.name, ids.name = "top_log_probs", "top_ids"
    # Made before the last node, which may be the logits' own: order is put right afterwards.
    graph.sort()
    graph.outputs.insert(0, chances)
    graph.outputs.insert(1, ids)


def _insert_input(graph: ir.Graph, k: ir.Value) -> None:
    """After position and before the cache."""
    names = [value.name for value in graph.inputs]
    graph.inputs.insert(names.index("position") + 1, k)
