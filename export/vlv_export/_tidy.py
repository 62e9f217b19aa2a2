"""A captured graph made small: constants folded, what changes nothing taken out.

Few and cheap passes, because paper-size graphs have ten thousand nodes: the exporter's own
optimizer matches every rewrite rule at every node, which takes longer than all the rest.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common
from onnxscript.optimizer import fold_constants

FOLDED = 1 << 24
"""elements of the largest constant that folding may make: positions of a large picture"""
SMALL = 1 << 12
"""elements of the largest initializer that is compared by content"""


def tidy(model: ir.Model) -> None:
    """Simplify in place; the same numbers for every input."""
    _share_weights(model.graph)
    fold_constants(
        model,
        onnx_shape_inference=True,
        input_size_limit=SMALL,
        output_size_limit=FOLDED,
        should_fold=_should_fold,
    )
    _sweep(model)
    for node in tuple(model.graph):
        if rule := RULES.get(node.op_type):
            rule(node)
    _sweep(model)


def _should_fold(node: ir.Node) -> bool | None:
    """All that hangs on constants alone; but a transposed weight would be its copy."""
    if node.op_type in ("Transpose", "Reshape", "Cast"):
        return None
    if any(value is not None and value.const_value is None for value in node.inputs):
        return False
    shape = node.outputs[0].shape
    known = shape is not None and shape.is_static()
    return True if known and math.prod(shape.numpy()) <= FOLDED else None  # type: ignore[union-attr]


def _sweep(model: ir.Model) -> None:
    ir.passes.Sequential(
        common.IdentityEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(size_limit=SMALL),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedOpsetsPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
        common.ClearMetadataAndDocStringPass(),
    )(model)


def _share_weights(graph: ir.Graph) -> None:
    """One initializer for each of the module's tensors: tied tables come under several names."""
    seen: dict[Any, ir.Value] = {}
    for value in tuple(graph.initializers.values()):
        tensor = getattr(value.const_value, "raw", None)
        if tensor is None:
            continue
        key = tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()
        first = seen.setdefault(key, value)
        if first is not value and tensor.numel():
            ir.convenience.replace_all_uses_with(value, first)


def _reshape(node: ir.Node) -> None:
    """A computed shape is a constant: 0 for a length that stays in its place, -1 for one other."""
    given, shape, out = node.inputs[0], node.inputs[1], node.outputs[0]
    if given is None or shape is None or shape.const_value is not None:
        return
    if given.shape is None or out.shape is None or 0 in out.shape:
        return
    sizes = [_size(given.shape, index, size) for index, size in enumerate(out.shape)]
    if sizes.count(-1) <= 1:
        node.replace_input_with(1, _constant(node, np.array(sizes, np.int64)))
        node.attributes.pop("allowzero", None)


def _size(given: ir.Shape, index: int, size: int | ir.SymbolicDim) -> int:
    if isinstance(size, int):
        return size
    return 0 if index < len(given) and given[index] == size and size.value is not None else -1


def _constant(node: ir.Node, array: NDArray[Any]) -> ir.Value:
    """A new initializer for the node's use."""
    name = f"{node.outputs[0].name}.{node.op_type.lower()}"
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(array.shape))
    value.dtype = tensor.dtype
    assert node.graph is not None
    node.graph.register_initializer(value)
    return value


def _same_shape(node: ir.Node) -> None:
    """Slices, pads and tiles that keep every length keep every number."""
    given, out = node.inputs[0], node.outputs[0]
    if given is None or given.shape is None or out.shape is None:
        return
    reverses = node.op_type == "Slice" and not _forward(node)
    if not reverses and given.shape.is_static() and given.shape == out.shape:
        _bypass(node)


def _forward(node: ir.Node) -> bool:
    """Whether a slice's steps are all 1."""
    steps = node.inputs[4] if len(node.inputs) > 4 else None
    return steps is None or (steps.const_value is not None and bool(np.all(_array(steps) == 1)))


def _no_padding(node: ir.Node) -> None:
    padding = node.inputs[1]
    if padding is not None and padding.const_value is not None and not _array(padding).any():
        _bypass(node)


def _whole_slice(node: ir.Node) -> None:
    """From 0 to the end of every axis."""
    starts, ends = node.inputs[1:3]
    known = all(value is not None and value.const_value is not None for value in (starts, ends))
    whole = known and not _array(starts).any() and (_array(ends) == np.iinfo(np.int64).max).all()
    if whole and _forward(node):
        _bypass(node)
    else:
        _same_shape(node)


def _same_type(node: ir.Node) -> None:
    if node.inputs[0] is not None and node.inputs[0].dtype == node.outputs[0].dtype:
        _bypass(node)


def _broadcast(node: ir.Node) -> None:
    """An expansion is left out where all its users would broadcast by themselves."""
    given, out = node.inputs[0], node.outputs[0]
    if given is None or given.shape is None or out.shape is None or out.is_graph_output():
        return
    if given.shape.rank() == out.shape.rank() and all(
        _covers(user, index) for user, index in out.uses()
    ):
        _bypass(node)


def _covers(user: ir.Node, index: int) -> bool:
    """Whether the user's other input has the shape of its output already."""
    if user.op_type not in ("Add", "Sub", "Mul", "Div"):
        return False
    other = user.inputs[1 - index]
    result = user.outputs[0].shape
    return other is not None and None not in (other.shape, result) and other.shape == result


def _attention(node: ir.Node) -> None:
    """A mask that hides nothing goes; one that hides the future is `causal`."""
    if node.domain != "vlv" or len(node.inputs) < 4:
        return
    mask = _known_mask(node.inputs[3])
    if mask is None or (mask.dtype != bool and mask[np.isfinite(mask)].any()):
        return
    hidden = ~mask if mask.dtype == bool else np.isneginf(mask)
    future = np.triu(np.ones(mask.shape[-2:], bool), 1)
    if hidden.any() and not (mask.shape[-2] == mask.shape[-1] and (hidden == future).all()):
        return
    causal = hidden.any() or node.attributes["causal"].as_int() == 1
    node.replace_input_with(3, None)
    node.attributes["causal"] = ir.AttrInt64("causal", int(causal))


def _known_mask(value: ir.Value | None) -> NDArray[Any] | None:
    """A constant mask, also one that is only repeated for every row of the batch."""
    if value is None:
        return None
    if value.const_value is not None:
        return _array(value)
    expand = value.producer()
    if expand is None or expand.op_type != "Expand" or value.shape is None:
        return None
    source = expand.inputs[0]
    if source is None or source.const_value is None:
        return None
    sizes = [size if isinstance(size, int) else 1 for size in value.shape]
    return np.broadcast_to(_array(source), sizes)


def _bypass(node: ir.Node) -> None:
    given, out = node.inputs[0], node.outputs[0]
    if given is not None and not out.is_graph_output():
        ir.convenience.replace_all_uses_with(out, given)


def _array(value: ir.Value | None) -> NDArray[Any]:
    assert value is not None and value.const_value is not None
    return value.const_value.numpy()


RULES: dict[str, Callable[[ir.Node], None]] = {
    "Reshape": _reshape,
    "Pad": _no_padding,
    "Slice": _whole_slice,
    "Cast": _same_type,
    "Expand": _broadcast,
    "Attention": _attention,
}
"""by operator: what one node may become"""
