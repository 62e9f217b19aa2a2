"""Reshapes and transpositions that undo each other, which fusions leave behind."""

import onnx_ir as ir

from vlv_export.lowering._emit import replace


def cancel_views(graph: ir.Graph) -> None:
    """Join transpositions of transpositions; drop those, and pairs of reshapes, that do nothing."""
    for node in tuple(graph):
        if node.op_type == "Transpose" and _perm(node):
            _join_transposes(node)
        elif node.op_type == "Reshape":
            _drop_reshapes(node)


def same_shape(a: ir.Value, b: ir.Value) -> bool:
    """Whether both have one shape, of numbers and axis names that are known."""
    if a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
        return False
    return all(_known(one) and one == other for one, other in zip(a.shape, b.shape, strict=True))


def _join_transposes(node: ir.Node) -> None:
    source, perm = node.inputs[0], _perm(node)
    assert source is not None
    before = source.producer()
    if before is not None and before.op_type == "Transpose" and _perm(before):
        perm = [_perm(before)[axis] for axis in perm]
        source = before.inputs[0]
        node.replace_input_with(0, source)
        node.attributes["perm"] = ir.AttrInt64s("perm", perm)
    if perm == sorted(perm) and source is not None and not node.outputs[0].is_graph_output():
        replace(node, [source])


def _drop_reshapes(node: ir.Node) -> None:
    source = node.inputs[0]
    before = source.producer() if source is not None else None
    if before is None or before.op_type != "Reshape" or node.outputs[0].is_graph_output():
        return
    origin = before.inputs[0]
    if origin is not None and same_shape(origin, node.outputs[0]):
        replace(node, [origin])


def _perm(node: ir.Node) -> list[int]:
    attribute = node.attributes.get("perm")
    return list(attribute.value) if attribute is not None else []


def _known(size: int | ir.SymbolicDim) -> bool:
    return isinstance(size, int) or size.value is not None
