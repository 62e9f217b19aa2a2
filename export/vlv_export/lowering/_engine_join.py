"""One network for prefill and decode: prefix and tokens equally long, one taken at each place.

A neutral head reads prefix and after it tokens, either of which may be empty. Engines like neither
empty tensors nor two networks with the same weights: theirs takes, at each place, the row of
`prefix` where the token is -1, and the token's embedding otherwise.
"""

from collections.abc import Iterable

import onnx_ir as ir

from vlv_core.errors import UsageError
from vlv_export.lowering._emit import INT64, Emitter, number, replace

BOOL = ir.DataType.BOOL
LENGTH = "length"
"""the axis that both inputs have"""


def join_prefix(graph: ir.Graph) -> None:
    """Replace Concat(of prefix, of tokens) by a choice; both inputs are then (batch, length, ...).

    Raises UsageError for a head that joins them otherwise, or asks for the length of one of them.
    """
    named = {value.name: value for value in graph.inputs}
    prefix, tokens = named["prefix"], named["tokens"]
    before = {each: _downstream(graph, each) for each in (prefix, tokens)}
    join = _join(graph, before[prefix], before[tokens])
    _check_alone(graph, join, before[prefix] | before[tokens])
    _rename_axes(graph, join, prefix, tokens)
    emit = Emitter(graph)
    emit.anchor = next(iter(graph))
    shape, zero = ["batch", LENGTH], emit.constant(0)
    given = emit("Less", tokens, zero, dtype=BOOL, shape=shape)
    known = emit("Max", tokens, zero, dtype=INT64, shape=shape)
    for node, index in tuple(tokens.uses()):
        if node not in (given.producer(), known.producer()):
            node.replace_input_with(index, known)
    emit.anchor = join
    rows = emit("Unsqueeze", given, emit.constant([2]), dtype=BOOL, shape=[*shape, 1])
    first, second = join.inputs
    out = join.outputs[0]
    replace(join, [emit("Where", rows, first, second, dtype=out.dtype, shape=out.shape)])


def _downstream(graph: ir.Graph, source: ir.Value) -> set[ir.Value]:
    """All that is computed from `source`, up to and with the first Concats."""
    found = {source}
    for node in graph:
        reads = any(each in found for each in node.inputs)
        if reads and node.op_type != "Concat" and not _asks_batch(node):
            found.update(node.outputs)
    return found


def _join(graph: ir.Graph, prefix: set[ir.Value], tokens: set[ir.Value]) -> ir.Node:
    for node in graph:
        if node.op_type == "Concat" and len(node.inputs) == 2:
            first, second = node.inputs
            if first in prefix - tokens and second in tokens - prefix and _axis(node) == 1:
                return node
    raise UsageError(
        "part 'head': no Concat of prefix and embedded tokens along their length, "
        "so that an engine cannot take one or the other",
        hint="write torch.cat([prefix, embedding], dim=1) in the head's module",
    )


def _axis(node: ir.Node) -> int:
    out, axis = node.outputs[0], node.attributes["axis"].as_int()
    return axis % len(out.shape) if out.shape is not None else axis


def _check_alone(graph: ir.Graph, join: ir.Node, before: set[ir.Value]) -> None:
    """Nothing else may read the two inputs, but for their batch: their lengths change."""
    wanted = {join, *_upstream(join)}
    for node in graph:
        reads = any(each in before for each in node.inputs)
        if reads and node not in wanted and not _asks_batch(node):
            raise UsageError(
                f"part 'head': {node.op_type} node {node.outputs[0].name!r} reads prefix or tokens "
                "beside their Concat, so that an engine cannot take one or the other",
                hint="take lengths from torch.cat([prefix, embedding], dim=1)",
            )


def _asks_batch(node: ir.Node) -> bool:
    return node.op_type == "Shape" and (number(node, "start", 0), number(node, "end", -1)) == (0, 1)


def _upstream(node: ir.Node) -> set[ir.Node]:
    """All nodes that a node depends on."""
    found: set[ir.Node] = set()
    waiting: list[ir.Node] = [node]
    while waiting:
        made = (each.producer() for each in waiting.pop().inputs if each is not None)
        new = {each for each in made if each is not None} - found
        found |= new
        waiting.extend(new)
    return found


def _rename_axes(graph: ir.Graph, join: ir.Node, prefix: ir.Value, tokens: ir.Value) -> None:
    """The lengths of prefix, tokens and both together are one axis now."""
    lengths = {str(each.shape[1]) for each in (prefix, tokens, *join.inputs, *join.outputs)
               if each is not None and each.shape is not None}  # fmt: skip
    for value in (*graph.inputs, *_made(graph)):
        if value.shape is not None:
            value.shape = ir.Shape([LENGTH if str(s) in lengths else s for s in value.shape])


def _made(graph: ir.Graph) -> Iterable[ir.Value]:
    return (value for node in graph for value in node.outputs)
