"""The graphs that engines are compiled from: opset 24, a static cache, one head for both uses.

They are made by the passes of the portable variants, but for attention and the head's inputs, and
onnxruntime runs their float32 and float16 forms, which so prove the bfloat16 one.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from vlv_core.errors import UsageError
from vlv_export.lowering._cleanup import clean, drop_unused, finish
from vlv_export.lowering._emit import Emitter, replace
from vlv_export.lowering._engine_attention import NEVER, lower_for_engine
from vlv_export.lowering._engine_join import join_prefix
from vlv_export.lowering._linear import fold_transposes, tie_tables
from vlv_export.lowering._lint_engine import OPSET
from vlv_export.lowering._precision import LOW, lower_precision
from vlv_export.lowering._store import WeightStore
from vlv_export.lowering._tail import add_tail
from vlv_export.lowering._variant import write_graph
from vlv_export.manifest import GraphEntry

BYTES, FLOAT = ir.DataType.UINT8, ir.DataType.FLOAT
IR_VERSION = 12
"""of onnx's format: what came with that opset"""
MOVES = {
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}
"""operators that answer the numbers they were given"""
WIDE = {"ConvTranspose"}
"""operators that stay in float32: TensorRT-RTX has no bfloat16 kernel for them"""


def build_engine_graphs(
    neutral: Mapping[str, Path],
    folder: Path,
    *,
    dtype: str,
    capacities: Sequence[int],
    progress: Callable[[str], None] | None = None,
) -> dict[str, GraphEntry]:
    """Write part -> graph file, and say what was written, relative to `folder`.

    `neutral` maps parts to neutral ONNX files. A head has one graph for each of `capacities`
    (tokens, prefix and caption together): the largest is the part `head`, another `head.C`. All
    graphs share their weights. Raises UsageError for a dtype that does not exist or cannot hold
    the weights, and for a head whose prefix cannot be told from its tokens.
    """
    if dtype not in NEVER:
        raise UsageError(f"no dtype {dtype!r}; there are {', '.join(NEVER)}")
    folder.mkdir(parents=True, exist_ok=True)
    store = WeightStore(folder)
    entries = {}
    for part, name, capacity in _graphs(neutral, capacities):
        if progress is not None:
            progress(f"{dtype}: {name}")
        model = ir.load(neutral[part])
        _convert(model, part, dtype, capacity)
        entry = write_graph(model, name, folder, store, ir_version=IR_VERSION)
        entries[name] = dataclasses.replace(entry, joined=part == "head")
    return entries


def _graphs(
    neutral: Mapping[str, Path], capacities: Sequence[int]
) -> Iterator[tuple[str, str, int]]:
    """Part, the graph's name, and its capacity; the largest head first."""
    for part in neutral:
        if part != "head":
            yield part, part, 0
            continue
        if not capacities or min(capacities) < 2:
            raise UsageError(
                f"capacities of {list(capacities)} tokens: a head needs one or more, each 2 or more"
            )
        largest, *others = sorted(set(capacities), reverse=True)
        yield part, part, largest
        yield from ((part, f"{part}.{each}", each) for each in others)


def _convert(model: ir.Model, part: str, dtype: str, capacity: int) -> None:
    graph = model.graph
    if part == "head":
        _fix_capacity(graph, capacity)
        join_prefix(graph)
    _convert_bytes(graph)
    _spell_out_einsums(graph)
    fold_transposes(graph)
    tie_tables(graph)
    drop_unused(graph)
    lower_for_engine(graph, dtype)
    if part == "head":
        add_tail(graph)
    clean(model)
    graph.opset_imports[""] = OPSET
    if dtype in LOW:
        for node in graph:
            if node.op_type in WIDE:
                node.meta["wide"] = True
        lower_precision(model, part, dtype)
        finish(model)


def _fix_capacity(graph: ir.Graph, capacity: int) -> None:
    """TensorRT writes in place only into caches of a fixed length."""
    for value in (*graph.inputs, *graph.outputs):
        if (value.name or "").startswith(("past.", "present.")):
            assert value.shape is not None
            batch, heads, _, width = value.shape
            value.shape = ir.Shape([batch, heads, capacity, width])


def _convert_bytes(graph: ir.Graph) -> None:
    """Pictures become numbers at once: of bytes TensorRT takes nothing but a Cast."""
    emit, made = Emitter(graph), set()
    for value in graph.inputs:
        if value.dtype == BYTES and any(node.op_type in MOVES for node, _ in value.uses()):
            emit.anchor = graph[0]
            wide = emit("Cast", value, dtype=FLOAT, shape=value.shape, to=FLOAT)
            for node, index in tuple(value.uses()):
                if node is not wide.producer():
                    node.replace_input_with(index, wide)
            made.add(wide)
    for node in graph:
        if node.op_type in MOVES and node.inputs[0] in made:
            for value in node.outputs:
                value.type = ir.TensorType(FLOAT)
            made.update(node.outputs)


def _spell_out_einsums(graph: ir.Graph) -> None:
    """An Einsum of one operand that only orders its axes is a Transpose, which no one takes for a
    product."""
    emit = Emitter(graph)
    for node in tuple(graph):
        if node.op_type == "Einsum" and len(node.inputs) == 1:
            equation = node.attributes["equation"].as_string().replace(" ", "")
            before, _, after = equation.partition("->")
            if sorted(before) == sorted(after) and len(set(before)) == len(before):
                emit.anchor = node
                perm = [before.index(axis) for axis in after]
                shape = node.outputs[0].shape
                replace(node, [emit("Transpose", node.inputs[0], perm=perm, shape=shape)])
