"""A bfloat16 graph as onnxruntime's CPU can run it: in float32, each result rounded to bfloat16.

That CPU provider has no bfloat16 kernels but Cast. Products summed in float32 and rounded once are
what GPUs compute; where their compiler joins operations it rounds less often than this.
"""

from pathlib import Path

import onnx_ir as ir

from vlv_export.lowering._cleanup import finish
from vlv_export.lowering._emit import replace_value

FLOAT, BFLOAT16 = ir.DataType.FLOAT, ir.DataType.BFLOAT16
EXACT = {
    *("Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "Identity"),
    *("Max", "Min", "Neg", "Pad", "Reshape", "ScatterElements", "Slice", "SpaceToDepth", "Split"),
    *("Squeeze", "TensorScatter", "Tile", "Transpose", "Unsqueeze", "Where"),
}
"""operators that answer numbers they were given, which need no rounding"""


def simulate(graph: Path, out: Path) -> None:
    """Write the bfloat16 graph's simulation, whose floating inputs and outputs are all float32.

    Caches are taken as they were answered, with numbers that bfloat16 can hold. Weights are the
    same files, by name: whoever opens `out` in another folder tells onnxruntime where they are.
    """
    model = ir.load(graph)
    for value in model.graph.inputs:
        if value.dtype == BFLOAT16:
            value.type = ir.TensorType(FLOAT)
    # Constants first: their conversions must not be taken for nodes of the graph.
    nodes = tuple(model.graph)
    for value in tuple(model.graph.initializers.values()):
        if value.dtype == BFLOAT16:
            _replaced(model.graph, value, [FLOAT], after=None)
    for node in nodes:
        _widen(model.graph, node)
    finish(model)
    ir.save(model, out)


def _widen(graph: ir.Graph, node: ir.Node) -> None:
    """Compute one node in float32, and round what was bfloat16."""
    for value in node.outputs:
        if value.dtype == BFLOAT16:
            value.type = ir.TensorType(FLOAT)
            if node.op_type not in EXACT:
                _replaced(graph, value, [BFLOAT16, FLOAT], after=node)
    if node.op_type == "Cast" and node.attributes["to"].as_int() == BFLOAT16:
        node.attributes["to"] = ir.AttrInt64("to", FLOAT)


def _replaced(
    graph: ir.Graph, value: ir.Value, kinds: list[ir.DataType], *, after: ir.Node | None
) -> None:
    """Let all users of a value take what a chain of casts makes of it."""
    made = [ir.Value(shape=value.shape, type=ir.TensorType(kind)) for kind in kinds]
    replace_value(value, made[-1])
    nodes = []
    for source, target, kind in zip([value, *made], made, kinds, strict=False):
        nodes.append(ir.node("Cast", [source], {"to": kind}, outputs=[target]))
    if after is None:
        graph.insert_before(graph[0], nodes)
    else:
        graph.insert_after(after, nodes)
