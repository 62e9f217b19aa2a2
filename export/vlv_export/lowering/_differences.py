"""Are two graphs one computation in different floating types: node by node, weights by samples.

A bfloat16 graph cannot be run on a CPU. It is right if its float16 or float32 form is, and if both
differ in types alone.
"""

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from vlv_export.lowering._engine_attention import NEVER
from vlv_export.lowering._precision import LOW_SUFFIX

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
STEPS = {ir.DataType.FLOAT: 2.0**-23, ir.DataType.FLOAT16: 2.0**-10, ir.DataType.BFLOAT16: 2.0**-7}
"""relative distance of neighbouring numbers"""
LEAST = 2.0**-24
"""distance of float16's smallest numbers"""
SAMPLED = 1 << 16
"""numbers of a larger tensor that are compared, evenly spread"""
MOST = 20
"""differences told; one early in a graph brings many"""


def differences(a: Path, b: Path) -> list[str]:
    """Sentences on what differs but floating types and the casts between them; `a` then `b`."""
    first, second = _Structure(ir.load(a).graph), _Structure(ir.load(b).graph)
    found: list[str] = []
    for each in _compared(first, second):
        found.append(each)
        if len(found) == MOST:
            return [*found, "and more"]
    return found


class _Structure:
    """A graph without its casts between floats; values are named by where they come from."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.names: dict[ir.Value, str] = {each: str(each.name) for each in graph.inputs}
        self.constants: dict[str, ir.Value] = {}
        for name, value in graph.initializers.items():
            self.names[value] = name.removesuffix(LOW_SUFFIX)
            self.constants[self.names[value]] = value
        self.nodes: list[ir.Node] = []
        for node in graph:
            source = node.inputs[0] if node.inputs else None
            if source is not None and _only_casts(node, source):
                self.names[node.outputs[0]] = self.names[source]
                continue
            for index, value in enumerate(node.outputs):
                self.names[value] = f"output {index} of node {len(self.nodes)}"
            self.nodes.append(node)
        self.low = next((each for each in FLOATS[1:] if each in self._kinds()), FLOATS[0])

    def _kinds(self) -> set[ir.DataType | None]:
        return {value.dtype for node in self.nodes for value in node.outputs}

    def inputs(self, node: ir.Node) -> list[str]:
        return ["nothing" if each is None else self.names[each] for each in node.inputs]


def _only_casts(node: ir.Node, source: ir.Value) -> bool:
    return node.op_type == "Cast" and {source.dtype, node.outputs[0].dtype} <= set(FLOATS)


def _compared(a: _Structure, b: _Structure) -> Iterator[str]:
    yield from _interface("inputs", a.graph.inputs, b.graph.inputs)
    yield from _interface("outputs", a.graph.outputs, b.graph.outputs)
    for index, (one, other) in enumerate(zip_longest(a.nodes, b.nodes)):
        if one is None or other is None:
            yield f"node {index} is {_told(one)} in the first and {_told(other)} in the second"
            return
        for each in _node(a, one, b, other):
            yield f"node {index} ({one.op_type}, {one.name}): {each}"
    if a.graph.opset_imports != b.graph.opset_imports:
        yield f"opsets are {dict(a.graph.opset_imports)} and {dict(b.graph.opset_imports)}"
    for value, given in zip(a.graph.outputs, b.graph.outputs, strict=False):
        if a.names[value] != b.names[given]:
            yield (
                f"output {value.name!r} is {a.names[value]} in the first "
                f"and {b.names[given]} in the second"
            )
    yield from _constants(a.constants, b.constants)


def _interface(kind: str, a: Any, b: Any) -> Iterator[str]:
    one, other = ([f"{each.name} {each.shape}" for each in values] for values in (a, b))
    if one != other:
        yield f"{kind} are {', '.join(one)} in the first and {', '.join(other)} in the second"


def _node(a: _Structure, one: ir.Node, b: _Structure, other: ir.Node) -> Iterator[str]:
    if (one.domain, one.op_type) != (other.domain, other.op_type):
        yield f"it is {_told(other)} in the second"
        return
    for name in sorted({*one.attributes, *other.attributes}):
        setting, found = _attribute(one, name), _attribute(other, name)
        if setting != found:
            yield f"attribute {name!r} is {setting} in the first and {found} in the second"
    read, given = a.inputs(one), b.inputs(other)
    if read != given:
        yield f"reads {', '.join(read)} in the first and {', '.join(given)} in the second"
    kinds = [[each.dtype for each in node.outputs] for node in (one, other)]
    if len(kinds[0]) != len(kinds[1]) or not all(
        _alike(a, kind, b, found) for kind, found in zip(*kinds, strict=True)
    ):
        yield f"answers {kinds[0]} in the first and {kinds[1]} in the second"


def _alike(a: _Structure, one: Any, b: _Structure, other: Any) -> bool:
    """Whether two types may stand for one another: low for low, and anything for float32 whole."""
    if one not in FLOATS or other not in FLOATS or FLOATS[0] in (a.low, b.low):
        return one == other or {one, other} <= set(FLOATS)
    return (one == a.low) == (other == b.low)


def _attribute(node: ir.Node, name: str) -> Any:
    attribute = node.attributes.get(name)
    value = None if attribute is None else attribute.value
    return "a float" if node.op_type == "Cast" and name == "to" and value in FLOATS else value


def _constants(a: Mapping[str, ir.Value], b: Mapping[str, ir.Value]) -> Iterator[str]:
    for name in sorted({*a, *b}):
        if name not in a or name not in b:
            yield f"constant {name!r} is in {'the first' if name in a else 'the second'} alone"
            continue
        one, other = a[name], b[name]
        if one.shape != other.shape:
            yield f"constant {name!r} is {one.shape} in the first and {other.shape} in the second"
        elif not _equal(one, other):
            yield f"constant {name!r} holds other numbers in the second"


def _equal(one: ir.Value, other: ir.Value) -> bool:
    """Of one number each, as far as their types can tell."""
    if one.dtype not in FLOATS or other.dtype not in FLOATS:
        return one.dtype == other.dtype and np.array_equal(_sample(one), _sample(other))
    x, y = (_sample(each).astype(np.float64) for each in (one, other))
    never = {np.float32(each) for each in NEVER.values()}
    if x.size == 1 and {np.float32(x.item()), np.float32(y.item())} <= never:
        return True
    step = max(STEPS[one.dtype], STEPS[other.dtype])
    small = LEAST if ir.DataType.FLOAT16 in (one.dtype, other.dtype) else 0.0
    same = (x == y) | (np.abs(x - y) <= step * np.maximum(np.abs(x), np.abs(y)) + small)
    return bool((same | (np.isnan(x) & np.isnan(y))).all())


def _sample(value: ir.Value) -> NDArray[Any]:
    assert value.const_value is not None
    flat = value.const_value.numpy().reshape(-1)
    return flat[:: max(1, flat.size // SAMPLED)]


def _told(node: ir.Node | None) -> str:
    return "missing" if node is None else f"{node.op_type} ({node.name})"
