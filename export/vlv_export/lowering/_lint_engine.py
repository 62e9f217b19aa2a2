"""What level L0 asks of a graph for engines besides: what TensorRT's importer takes, and means.

Some of what it does not take it ignores without a word, such as a softcap, so that a graph that
parses may still be wrong.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from vlv_export.lowering._emit import number

OPSET = 24
"""the first with TensorScatter"""
OPERATORS = frozenset(
    {
        *("Abs", "Add", "And", "ArgMax", "ArgMin", "Attention", "AveragePool", "Cast", "Ceil"),
        *("Clip", "Concat", "Conv", "ConvTranspose", "Cos", "CumSum", "DepthToSpace", "Div"),
        *("Einsum", "Elu", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather"),
        *("GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "Greater"),
        *("GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization"),
        *("LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "MatMul"),
        *("Max", "MaxPool", "Mean", "Min", "Mish", "Mul", "Neg", "Not", "Or", "PRelu", "Pad"),
        *("Pow", "Range", "Reciprocal", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin"),
        *("ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Resize", "Round"),
        *("ScatterElements", "ScatterND", "Shape", "Sigmoid", "Sign", "Sin", "Slice", "Softmax"),
        *("Softplus", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh"),
        *("TensorScatter", "Tile", "TopK", "Transpose", "Unsqueeze", "Where", "Xor"),
    }
)
"""that it takes, in the meaning that opset 20 gave them: not GroupNormalization"""
ATTRIBUTES = {"Attention": {"is_causal", "scale"}, "TensorScatter": {"axis", "mode"}}
"""of the operators of which it takes some only"""
CACHES = ("past.", "present.")


def engine_faults(model: ir.Model) -> Iterator[str]:
    """What is wrong, in sentences."""
    graph = model.graph
    unknown = {node.op_type for node in graph if node.domain or node.op_type not in OPERATORS}
    for name in sorted(unknown):
        yield f"operator {name} is not one that engines may use"
    cached = any(node.op_type == "TensorScatter" for node in graph)
    for node in graph:
        for each in _node(node, cached=cached):
            yield f"{node.op_type} node {node.name!r}: {each}"
    yield from _bytes(graph)
    yield from _caches(graph)
    yield from _axes("input", graph.inputs)
    yield from _axes("output", graph.outputs)


def _node(node: ir.Node, *, cached: bool) -> Iterator[str]:
    for name in sorted(set(node.attributes) - ATTRIBUTES.get(node.op_type, set(node.attributes))):
        yield f"TensorRT does not take the attribute {name!r}"
    if node.op_type == "Attention":
        yield from _attention(node, cached=cached)
    elif node.op_type == "TensorScatter":
        mode = node.attributes.get("mode")
        if mode is not None and mode.as_string() != "linear":
            yield f"mode is {mode.as_string()!r}, and caches are written in 'linear' mode"
    elif node.op_type == "ConvTranspose" and node.outputs[0].dtype != ir.DataType.FLOAT:
        yield "TensorRT has no kernel for it but in float32"


def _attention(node: ir.Node, *, cached: bool) -> Iterator[str]:
    if len(node.inputs) > 4:
        yield "TensorRT takes no cache here: TensorScatter writes it before"
    if len(node.outputs) > 1:
        yield "TensorRT answers one output"
    root = math.sqrt(number(node, "scale", 2.0))
    if math.frexp(root)[0] != 0.5:
        yield "TensorRT multiplies query and key by the root of scale, which is not exact"
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    causal = bool(number(node, "is_causal", 0))
    if causal and (mask is not None or cached):
        yield "is_causal stands beside a mask or a cache"
    if cached and mask is None:
        yield "nothing hides what is beyond the used cache"
    if mask is not None and not _finite(mask):
        yield "its mask may hold infinity, or is not of numbers to be added"


def _finite(mask: ir.Value) -> bool:
    """Whether it comes, but for casts, of a Where or Max with a finite constant."""
    made = mask.producer()
    while made is not None and made.op_type == "Cast" and made.inputs[0] is not None:
        made = made.inputs[0].producer()
    if made is None or made.op_type not in ("Where", "Max"):
        return False
    constants = [each.const_value for each in made.inputs if each is not None and each.const_value]
    singles = [each.numpy() for each in constants if each.size == 1]
    return bool(singles) and all(np.isfinite(each.astype(np.float32)).all() for each in singles)


def _bytes(graph: ir.Graph) -> Iterator[str]:
    for value in graph.inputs:
        for node, _ in value.uses():
            if value.dtype == ir.DataType.UINT8 and node.op_type not in ("Cast", "Shape"):
                yield f"{node.op_type} node {node.name!r} reads bytes, of which TensorRT takes Cast"


def _caches(graph: ir.Graph) -> Iterator[str]:
    """Each cache goes through one TensorScatter, and its length is a number."""
    for value in graph.inputs:
        name = value.name or ""
        if not name.startswith(CACHES[0]):
            continue
        shape = list(value.shape or ())
        if len(shape) != 4 or not isinstance(shape[2], int):
            yield f"cache {name!r} is {value.shape}: its length must be a number"
        uses = list(value.uses())
        present = name.replace(*CACHES, 1)
        written = len(uses) == 1 and uses[0].idx == 0 and uses[0].node.op_type == "TensorScatter"
        if not written or uses[0].node.outputs[0].name != present:
            yield f"cache {name!r} is not written in place into {present!r} by a TensorScatter"
        elif number(uses[0].node, "axis", -2) not in (2, -2):
            yield f"cache {name!r} is written along axis {number(uses[0].node, 'axis', -2)}, not 2"


def _axes(kind: str, values: Sequence[ir.Value]) -> Iterator[str]:
    """All but k are of a batch of any size."""
    for value in values:
        shape = list(value.shape or ())
        if value.name != "k" and (not shape or isinstance(shape[0], int)):
            yield f"{kind} {value.name!r} is {value.shape}: its first axis must be the batch's"
