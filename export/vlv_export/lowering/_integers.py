"""8-bit products of 8-bit activations: MatMulIntegerToFloat, for parts that computing bounds.

Activations are rounded as they come, each row by its own largest number; weights by that of each
column. Sums of integers are exact, so that a row's answer does not depend on the rows beside it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from vlv_export.lowering._emit import MICROSOFT, Emitter, replace
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
    """All products with constant weights, and the biases added to them."""
    emit = Emitter(graph)
    for each in linears(graph):
        rows, columns = each.sizes
        if rows * columns >= LEAST and rows > 1:
            linear, last = with_bias(each)
            emit.anchor = last
            replace(last, [_product(emit, linear, last.outputs[0].shape)])


def _product(emit: Emitter, linear: Linear, shape: ir.Shape | None) -> ir.Value:
    rows, columns = linear.sizes
    made = Together(lambda: _round(linear.matrix()))
    name = linear.weight.name
    weight = emit.initializer(f"{name}.int8", made.tensor("weight", INT8, (rows, columns)))
    scales = emit.initializer(f"{name}.scales", made.tensor("scales", FLOAT, (columns,)))
    rounded, size = _rounded(emit, linear.x)
    product = emit(
        "MatMulIntegerToFloat",
        *(rounded, weight, _step(emit), scales, _centre(emit)),
        domain=MICROSOFT,
        dtype=FLOAT,
        shape=shape,
    )
    product = emit("Mul", product, size, shape=shape)
    return product if linear.bias is None else emit("Add", product, linear.bias, shape=shape)


def _rounded(emit: Emitter, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Each row of x (..., K) by its largest number, and that (..., 1).

    Merged by the clean-up where several weights share their x.
    """
    rows = x.shape[:-1] if x.shape is not None else None
    sizes = emit("Abs", x, shape=x.shape)
    wide = [*rows, 1] if rows is not None else None
    size = emit("ReduceMax", sizes, emit.constant([-1]), keepdims=1, shape=wide)
    # A row of zeros is 0 / 0, which becomes some integer, which size 0 makes 0 again.
    share = emit("Div", x, size, shape=x.shape)
    rounded = emit("QuantizeLinear", share, _step(emit), _centre(emit), dtype=UINT8, shape=x.shape)
    return rounded, size


def _step(emit: Emitter) -> ir.Value:
    return emit.constant(1 / REACH, np.float32)


def _centre(emit: Emitter) -> ir.Value:
    return emit.constant(CENTRE, np.uint8)


def _round(matrix: NDArray[np.float32]) -> Mapping[str, NDArray[Any]]:
    largest = np.maximum(matrix.max(axis=0), -matrix.min(axis=0))
    scales = np.maximum(largest / REACH, TINY).astype(np.float32)
    return {"weight": np.rint(matrix / scales).astype(np.int8), "scales": scales}
