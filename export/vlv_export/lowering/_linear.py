"""Matrix products with constant weights: found in their several spellings, joined, tied."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from vlv_export.lowering._emit import Emitter, number, replace

Array = NDArray[Any]


@dataclass(frozen=True)
class Linear:
    """x (..., K) times a constant weight, and perhaps plus a constant bias (N,)."""

    node: ir.Node
    x: ir.Value
    weight: ir.Value
    """(K, N), or (N, K) if `transposed`"""
    transposed: bool
    bias: ir.Value | None

    @property
    def sizes(self) -> tuple[int, int]:
        """K, N."""
        assert self.weight.shape is not None
        rows, columns = (int(str(size)) for size in self.weight.shape)
        return (columns, rows) if self.transposed else (rows, columns)

    def matrix(self) -> Array:
        """The weight as (K, N), read now."""
        array = numbers(self.weight)
        return array.T if self.transposed else array


def linear_of(node: ir.Node) -> Linear | None:
    """The node as a product with a constant matrix, if it is one."""
    if node.op_type not in ("MatMul", "Gemm") or node.domain:
        return None
    x, weight, *rest = node.inputs
    if x is None or weight is None or weight.const_value is None or x.const_value is not None:
        return None
    if weight.shape is None or len(weight.shape) != 2:
        return None
    if node.op_type == "MatMul":
        return Linear(node, x, weight, False, None)
    plain = number(node, "alpha", 1.0) == number(node, "beta", 1.0) == 1.0
    if not plain or number(node, "transA", 0):
        return None
    return Linear(node, x, weight, bool(number(node, "transB", 0)), rest[0] if rest else None)


def with_bias(linear: Linear) -> tuple[Linear, ir.Node]:
    """A product and the constant that alone is added to it, and the node that answers both."""
    uses = list(linear.node.outputs[0].uses())
    adds = len(uses) == 1 and uses[0].node.op_type == "Add" and linear.bias is None
    if not adds or linear.node.outputs[0].is_graph_output():
        return linear, linear.node
    node = uses[0].node
    bias = node.inputs[1 - uses[0].idx]
    if bias is None or bias.const_value is None or bias.const_value.shape != (linear.sizes[1],):
        return linear, linear.node
    return dataclasses.replace(linear, bias=bias), node


def linears(graph: ir.Graph) -> Iterator[Linear]:
    """All of a graph, in order, each as it is at its turn: others may be replaced before."""
    for node in tuple(graph):
        if node.graph is graph and (found := linear_of(node)) is not None:
            yield found


def numbers(value: ir.Value) -> Array:
    """A constant's numbers; those of a file are mapped, not read."""
    assert value.const_value is not None
    return value.const_value.numpy()


def lazily(make: Callable[[], Array], *, dtype: ir.DataType, shape: Sequence[int]) -> ir.LazyTensor:
    """A tensor made when it is written, and not kept."""
    return ir.LazyTensor(
        lambda: ir.Tensor(np.asarray(make(), order="C"), dtype=dtype), dtype, ir.Shape(shape)
    )


class Together:
    """Tensors that one computation makes: done once, and each let go when it is written."""

    def __init__(self, make: Callable[[], Mapping[str, Array]]) -> None:
        self._make = make
        self._made: dict[str, Array] = {}

    def tensor(self, name: str, dtype: ir.DataType, shape: Sequence[int]) -> ir.LazyTensor:
        """One of them."""
        return lazily(lambda: self._take(name), dtype=dtype, shape=shape)

    def _take(self, name: str) -> Array:
        if name not in self._made:
            self._made = dict(self._make())
        return self._made.pop(name)


def fold_transposes(graph: ir.Graph) -> None:
    """Products with Transpose(weight): with the weight stored transposed, or Gemm if it is tied.

    A runtime would do that whenever it opens the graph, and hold a second copy.
    """
    emit = Emitter(graph)
    for node in tuple(graph):
        weight = node.inputs[0] if node.inputs else None
        if node.op_type != "Transpose" or weight is None or weight.const_value is None:
            continue
        emit.anchor = node
        users = [use for use, _ in node.outputs[0].uses()]
        tied = any(use.op_type == "Gather" for use, _ in weight.uses())
        if tied and all(_is_right(user, node.outputs[0]) for user in users):
            for user in users:
                _as_gemm(emit, user, weight)
            graph.remove(node, safe=True)
        else:
            replace(node, [_transposed(emit, node, weight)])


def tie_tables(graph: ir.Graph) -> None:
    """A product with the transposed copy of a gathered table: with the table itself."""
    emit = Emitter(graph)
    tables = {node.inputs[0] for node in graph if node.op_type == "Gather"}
    for table in tables:
        if table is None or table.const_value is None or len(table.shape or ()) != 2:
            continue
        for each in linears(graph):
            if each.weight is not table and not each.transposed and _is_copy(each, table):
                _as_gemm(emit, each.node, table)


def join_siblings(graph: ir.Graph) -> None:
    """Products of one x: one product with the weights side by side, split afterwards."""
    emit = Emitter(graph)
    groups: dict[ir.Value, list[Linear]] = defaultdict(list)
    for each in linears(graph):
        if each.node.op_type == "MatMul":
            groups[each.x].append(each)
    for group in groups.values():
        if len(group) > 1:
            emit.anchor = group[0].node
            joined = joined_product(emit, group)
            columns = [each.sizes[1] for each in group]
            parts = emit.several("Split", len(group), joined, emit.constant(columns), axis=-1)
            for each, part in zip(group, parts, strict=True):
                replace(each.node, [part])


def joined_product(
    emit: Emitter, group: Sequence[Linear], *, factors: Sequence[float] | None = None
) -> ir.Value:
    """x times the weights of a group side by side, each times its factor.

    The weight is made when it is written.
    """
    rows, columns = group[0].sizes[0], sum(each.sizes[1] for each in group)
    weights = [each.weight for each in group]
    by = factors or [1.0] * len(group)
    tensor = lazily(
        lambda: np.concatenate(
            [numbers(each) * np.float32(factor) for each, factor in zip(weights, by, strict=True)],
            axis=1,
        ),
        dtype=ir.DataType.FLOAT,
        shape=(rows, columns),
    )
    name = "+".join(str(weight.name) for weight in weights)
    shape = group[0].node.outputs[0].shape
    wide = [*shape[:-1], columns] if shape is not None else None
    return emit("MatMul", group[0].x, emit.initializer(name, tensor), shape=wide)


def _is_right(node: ir.Node, weight: ir.Value) -> bool:
    return node.op_type == "MatMul" and node.inputs[1] is weight


def _as_gemm(emit: Emitter, product: ir.Node, table: ir.Value) -> None:
    """x (..., K) times table (N, K) transposed, without a transposed copy."""
    x, out = product.inputs[0], product.outputs[0]
    assert x is not None and x.shape is not None and table.shape is not None
    emit.anchor = product
    if len(x.shape) == 2:
        replace(product, [emit("Gemm", x, table, transB=1)])
        return
    columns, rows = (int(str(size)) for size in table.shape)
    flat = emit("Reshape", x, emit.constant([-1, rows]), shape=[None, rows])
    found = emit("Gemm", flat, table, transB=1, shape=[None, columns])
    lengths = [emit.size(x, axis) for axis in range(len(x.shape) - 1)]
    extent = emit("Concat", *lengths, emit.constant([columns]), axis=0)
    replace(product, [emit("Reshape", found, extent, shape=out.shape, allowzero=1)])


def _transposed(emit: Emitter, node: ir.Node, weight: ir.Value) -> ir.Value:
    rank = len(weight.shape or ())
    given = node.attributes.get("perm")
    perm = list(given.value) if given is not None else list(reversed(range(rank)))
    assert weight.shape is not None and weight.dtype is not None
    shape = [int(str(weight.shape[axis])) for axis in perm]
    tensor = lazily(lambda: numbers(weight).transpose(perm), dtype=weight.dtype, shape=shape)
    return emit.initializer(f"{weight.name}.T", tensor)


def _is_copy(product: Linear, table: ir.Value) -> bool:
    """Whether the weight is the table transposed: first by a few rows, then by all."""
    if product.weight.shape is None or tuple(product.weight.shape)[::-1] != tuple(
        table.shape or ()
    ):
        return False
    weight, rows = numbers(product.weight), numbers(table)
    return np.array_equal(weight[:, :4].T, rows[:4]) and np.array_equal(weight.T, rows)
