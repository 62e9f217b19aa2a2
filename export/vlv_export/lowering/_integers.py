"""8-bit products of 8-bit activations: MatMulIntegerToFloat, for parts that computing bounds.

Activations are rounded as they come, each row by its own largest number; weights by that of each
column. Sums of integers are exact, so that a row's answer does not depend on the rows beside it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from vlv_export.lowering._emit import MICROSOFT, Emitter, number, replace
from vlv_export.lowering._linear import Linear, Together, linears, with_bias

REACH = 127
"""of weights and activations. Without VNNI, pairs of products are added in 16 bits, which may
saturate"""
CENTRE = 128
"""that stands for zero: the kernels want activations without a sign"""
LEAST = 1 << 10
"""numbers of a weight that is worth it"""
TINY = 1e-30
"""for columns of zeros"""
UINT8, INT8, FLOAT = ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.FLOAT


def quantise_integers(graph: ir.Graph) -> None:
    """All products with constant weights; a gathered table that is tied to one shares its bytes."""
    emit = Emitter(graph)
    made: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}
    for each in linears(graph):
        rows, columns = each.sizes
        if rows * columns >= LEAST and rows > 1:
            linear, last = with_bias(each)
            emit.anchor = last
            if each.weight not in made:
                made[each.weight] = _rounded(emit, linear)
            replace(last, [_product(emit, linear, *made[each.weight], last.outputs[0].shape)])
    for node in tuple(graph):
        table = node.inputs[0] if node.op_type == "Gather" and not node.domain else None
        if table in made and not number(node, "axis", 0):
            emit.anchor = node
            replace(node, [_gather(emit, node, *made[table])])


def _rounded(emit: Emitter, linear: Linear) -> tuple[ir.Value, ir.Value]:
    """The weight (K, N) and the scales of its columns, made when written."""
    rows, columns = linear.sizes
    made = Together(lambda: _round(linear.matrix()))
    name = linear.weight.name
    weight = emit.initializer(f"{name}.int8", made.tensor("weight", INT8, (rows, columns)))
    scales = emit.initializer(f"{name}.scales", made.tensor("scales", FLOAT, (columns,)))
    return weight, scales


def _product(
    emit: Emitter, linear: Linear, weight: ir.Value, scales: ir.Value, shape: ir.Shape | None
) -> ir.Value:
    # The rounding is merged by the clean-up where several weights share their x.
    size = emit(
        "ReduceMax",
        emit("Abs", linear.x, shape=linear.x.shape),
        emit.constant([-1]),
        keepdims=1,
        shape=[*(linear.x.shape or ())[:-1], 1],
    )
    # A row of zeros is 0 / 0, which becomes some integer, which size 0 makes 0 again.
    step, centre = emit.constant(1 / REACH, np.float32), emit.constant(CENTRE, np.uint8)
    share = emit("Div", linear.x, size, shape=linear.x.shape)
    rounded = emit("QuantizeLinear", share, step, centre, dtype=UINT8, shape=linear.x.shape)
    product = emit(
        "MatMulIntegerToFloat",
        *(rounded, weight, step, scales, centre),
        domain=MICROSOFT,
        dtype=FLOAT,
        shape=shape,
    )
    product = emit("Mul", product, size, shape=shape)
    return product if linear.bias is None else emit("Add", product, linear.bias, shape=shape)


def _gather(emit: Emitter, node: ir.Node, weight: ir.Value, scales: ir.Value) -> ir.Value:
    """Rows of a table that a product holds transposed: its columns."""
    ids, out = node.inputs[1], node.outputs[0]
    assert ids is not None and ids.shape is not None and weight.shape is not None
    lengths = list(ids.shape)
    columns = emit("Gather", weight, ids, axis=1, shape=[weight.shape[0], *lengths])
    order = [*range(1, len(lengths) + 1), 0]
    rows = emit("Transpose", emit("Cast", columns, to=FLOAT, dtype=FLOAT), perm=order)
    step = emit("Gather", scales, ids, axis=0, shape=lengths)
    last = emit.constant([len(lengths)])
    return emit("Mul", rows, emit("Unsqueeze", step, last, shape=[*lengths, 1]), shape=out.shape)


def _round(matrix: NDArray[np.float32]) -> Mapping[str, NDArray[Any]]:
    largest = np.maximum(matrix.max(axis=0), -matrix.min(axis=0))
    scales = np.maximum(largest / REACH, TINY).astype(np.float32)
    return {"weight": np.rint(matrix / scales).astype(np.int8), "scales": scales}
