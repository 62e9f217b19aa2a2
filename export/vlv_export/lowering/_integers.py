"""8-bit products of 8-bit activations: MatMulIntegerToFloat, for parts that computing bounds.

Activations are rounded as they come, by the range of the whole tensor; each column of weights by
its own. So a row's answer depends, a little, on the rows beside it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from vlv_export.lowering._emit import MICROSOFT, Emitter, replace
from vlv_export.lowering._linear import Linear, Together, linears, with_bias

REACH = 127
"""of weights. Processors without VNNI add pairs of products in 16 bits, which may saturate"""
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
    # Merged by the clean-up where several weights share their x.
    rounded, step, centre = emit.several("DynamicQuantizeLinear", 3, linear.x, dtype=UINT8)
    rounded.shape, step.shape, centre.shape = linear.x.shape, ir.Shape([]), ir.Shape([])
    step.type = ir.TensorType(FLOAT)
    return emit(
        "MatMulIntegerToFloat",
        *(rounded, weight, step, scales, centre),
        *((None, linear.bias) if linear.bias is not None else ()),
        domain=MICROSOFT,
        dtype=FLOAT,
        shape=shape,
    )


def _round(matrix: NDArray[np.float32]) -> Mapping[str, NDArray[Any]]:
    largest = np.maximum(matrix.max(axis=0), -matrix.min(axis=0))
    scales = np.maximum(largest / REACH, TINY).astype(np.float32)
    return {"weight": np.rint(matrix / scales).astype(np.int8), "scales": scales}
