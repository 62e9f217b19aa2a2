"""Adding nodes to a graph: each before an anchor, constants and sizes shared."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

INT64 = ir.DataType.INT64
MICROSOFT = "com.microsoft"
"""onnxruntime's own operators"""


class Emitter:
    """Makes nodes before `anchor`, the node that is being replaced.

    Anchors are visited in the graph's order, so that what an earlier one made can be used again.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.anchor: ir.Node | None = None
        self.wide = False
        """whether the nodes made now compute in float32 in every variant"""
        self._constants: dict[tuple[Any, ...], ir.Value] = {}
        self._sizes: dict[str, ir.Value] = {}
        self._sources = _first_of_each_axis(graph)

    def __call__(self, op: str, *inputs: ir.Value | None, **options: Any) -> ir.Value:
        """The output of a new node; see `several`."""
        return self.several(op, 1, *inputs, **options)[0]

    def several(
        self,
        op: str,
        outputs: int,
        *inputs: ir.Value | None,
        domain: str = "",
        dtype: ir.DataType | None = None,
        shape: Sequence[Any] | ir.Shape | None = None,
        **attributes: Any,
    ) -> Sequence[ir.Value]:
        """The outputs of a new node, of `dtype` (None: as its first input) and `shape`."""
        assert self.anchor is not None
        node = ir.node(op, inputs, attributes, domain=domain, num_outputs=outputs)
        node.meta["wide"] = self.wide
        for value in node.outputs:
            given = dtype or (inputs[0].dtype if inputs and inputs[0] is not None else None)
            value.type = ir.TensorType(given) if given is not None else None
            value.shape = ir.Shape(shape) if shape is not None else None
        self.graph.insert_before(self.anchor, node)
        return node.outputs

    def constant(self, values: Any, dtype: Any = np.int64) -> ir.Value:
        """A small constant; equal ones are one initializer."""
        array: NDArray[Any] = np.asarray(values, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.initializer(f"const_{len(self._constants)}", array)
        return self._constants[key]

    def initializer(self, name: str, value: Any) -> ir.Value:
        """A new initializer: an array or any lazily made tensor of onnx_ir."""
        tensor: Any = ir.tensor(value) if isinstance(value, np.ndarray) else value
        while name in self.graph.initializers:
            name += "_"
        made = ir.Value(
            name=name,
            shape=ir.Shape(tensor.shape),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        self.graph.register_initializer(made)
        return made

    def size(self, value: ir.Value, axis: int) -> ir.Value:
        """Length (1,) of an axis; those of one symbolic name are measured once."""
        assert value.shape is not None
        axis %= len(value.shape)
        length = value.shape[axis]
        if isinstance(length, int):
            return self.constant([length])
        symbol = length.value or f"{value.name}/{axis}"
        if symbol not in self._sizes:
            source, axis = self._sources.get(symbol, (value, axis))
            self._sizes[symbol] = self(
                "Shape", source, dtype=INT64, shape=[1], start=axis, end=axis + 1
            )
        return self._sizes[symbol]

    def range(self, length: ir.Value) -> ir.Value:
        """0 .. length (1,), as (length,)."""
        zero, one = self.constant(0), self.constant(1)
        end = self("Squeeze", length, dtype=INT64, shape=[])
        return self("Range", zero, end, one, dtype=INT64, shape=[None])


def _first_of_each_axis(graph: ir.Graph) -> dict[str, tuple[ir.Value, int]]:
    """Symbolic name of an axis -> the first value that has it, and where."""
    found: dict[str, tuple[ir.Value, int]] = {}
    made = (value for node in graph for value in node.outputs)
    for value in (*graph.inputs, *made):
        for axis, length in enumerate(value.shape or ()):
            if not isinstance(length, int) and length.value is not None:
                found.setdefault(length.value, (value, axis))
    return found


def width(value: ir.Value, axis: int) -> int:
    """A fixed length of a value; asserts that it is fixed."""
    assert value.shape is not None, f"{value.name} has no shape"
    length = value.shape[axis]
    assert isinstance(length, int), f"{value.name}: axis {axis} is {length}"
    return length


def number(node: ir.Node, name: str, default: float) -> float:
    """A numeric attribute of a node."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.value


def replace(node: ir.Node, values: Sequence[ir.Value]) -> None:
    """Put values in the place of a node's outputs, and remove it."""
    assert node.graph is not None
    for old, new in zip(node.outputs, values, strict=True):
        replace_value(old, new)
    node.graph.remove(node, safe=True)


def replace_value(old: ir.Value, new: ir.Value) -> None:
    """Use one value for another; an output of the graph keeps its name and contract."""
    if new.shape is None:
        new.shape = old.shape
    if old.is_graph_output():
        new.name, old.name = old.name, None
        new.shape, new.type = old.shape, old.type
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
