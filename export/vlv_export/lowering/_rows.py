"""8-bit products of 8-bit activations: MatMulIntegerToFloat, for parts that computing bounds.

Each row of activations is rounded by its own largest number, so that no row depends on those
beside it, nor suffers from their outliers; each column of weights by its own.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from vlv_export.lowering._emit import MICROSOFT, Emitter, replace
from vlv_export.lowering._linear import Linear, Together, linears

REACH = 64
"""of weights: two products of 255 x 64 fit the 16 bits that processors without VNNI add them in"""
LEVELS, CENTRE = 127, 128
"""of activations, which are unsigned"""
LEAST = 1 << 10
"""numbers of a weight that is worth it"""
TINY = 1e-30
"""for rows of zeros"""
UINT8, INT8, FLOAT = ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.FLOAT


def quantise_rows(graph: ir.Graph) -> None:
    """All products with constant weights."""
    emit = Emitter(graph)
    for each in linears(graph):
        rows, columns = each.sizes
        if rows * columns >= LEAST and rows > 1:
            emit.anchor = each.node
            replace(each.node, [_product(emit, each)])


def _product(emit: Emitter, linear: Linear) -> ir.Value:
    shape, (rows, columns) = linear.node.outputs[0].shape, linear.sizes
    made = Together(lambda: _round(linear.matrix()))
    name = linear.weight.name
    weight = emit.initializer(f"{name}.int8", made.tensor("weight", INT8, (rows, columns)))
    scales = emit.initializer(f"{name}.scales", made.tensor("scales", FLOAT, (columns,)))
    step, centre = emit.constant(1 / LEVELS, np.float32), emit.constant(CENTRE, np.uint8)
    # The products below are merged by the clean-up where several weights share their x.
    size = emit("ReduceMax", emit("Abs", linear.x), emit.constant([-1]), keepdims=1)
    size = emit("Max", size, emit.constant(TINY, np.float32))
    unit = emit("Div", linear.x, size, shape=linear.x.shape)
    rounded = emit("QuantizeLinear", unit, step, centre, dtype=UINT8, shape=linear.x.shape)
    product = emit(
        "MatMulIntegerToFloat",
        *(rounded, weight, step, scales, centre),
        domain=MICROSOFT,
        dtype=FLOAT,
        shape=shape,
    )
    product = emit("Mul", product, size, shape=shape)
    return product if linear.bias is None else emit("Add", product, linear.bias, shape=shape)


def _round(matrix: NDArray[np.float32]) -> Mapping[str, NDArray[Any]]:
    largest = np.maximum(matrix.max(axis=0), -matrix.min(axis=0))
    scales = np.maximum(largest / REACH, TINY).astype(np.float32)
    return {"weight": np.rint(matrix / scales).astype(np.int8), "scales": scales}
