"""Weights that have been in 4 bits before: the same numbers again, not rounded a second time.

Formats such as GGUF's Q4_1 hold a block of a column as step * level + offset, with 16 levels and an
offset of any size. MatMulNBits knows but whole zero points, and would move a block by up to half a
step, which is as much as rounding moves single numbers. So the offset's nearest whole part stays in
the block, and the rest becomes a row of its own, that the block's x, summed, is multiplied by:

    x @ weight = concat(x, x @ sums) @ concat(weight - rest, rest)
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from vlv_export.lowering._emit import Emitter, replace
from vlv_export.lowering._linear import Linear, lazily, linears

Floats = NDArray[np.float32]
LEVELS = 16
NEAR = 0.01
"""of a step: how far a number that has been rounded may be from its level. Others are .25 away"""


def split_offsets(graph: ir.Graph, *, size: int) -> None:
    """Split all products whose weights lie on levels, in blocks of `size`; others stay.

    A table that is also gathered stays, for its rows are read as they are.
    """
    emit = Emitter(graph)
    summed: dict[ir.Value, ir.Value] = {}
    for each in linears(graph):
        gathered = any(use.op_type == "Gather" for use, _ in each.weight.uses())
        if gathered or each.sizes[0] % size or rests(each.matrix(), size) is None:
            continue
        emit.anchor = each.node
        if each.x not in summed:
            summed[each.x] = _beside_its_sums(emit, each, size)
        bias = [] if each.bias is None else [each.bias]
        weight = _split(emit, each, size)
        shape = each.node.outputs[0].shape
        replace(each.node, [emit(each.node.op_type, summed[each.x], weight, *bias, shape=shape)])


def rests(matrix: Floats, size: int) -> Floats | None:
    """What blocks of 16 levels (K, N) are off whole zero points by, (K / size, N); or None."""
    # Most weights were never rounded, which a few columns show.
    few = matrix[:, :LEVELS]
    return _rests(matrix, size) if _rests(few, size) is not None else None


def _rests(matrix: Floats, size: int) -> Floats | None:
    blocks = matrix.reshape(-1, size, matrix.shape[1])
    least = blocks.min(axis=1)
    step = (blocks.max(axis=1) - least) / (LEVELS - 1)
    step[step == 0] = 1.0
    levels = (blocks - least[:, None]) / step[:, None]
    if np.abs(levels - np.rint(levels)).max() > NEAR:
        return None
    zeros = np.clip(np.rint(-least / step), 0, LEVELS - 1)
    return np.asarray(least + step * zeros, np.float32)


def _beside_its_sums(emit: Emitter, linear: Linear, size: int) -> ir.Value:
    """x (..., K) -> (..., K + K / size).

    Summed by a product, which is quantised as the others are: it rounds x as they do, and a row's
    sums do not depend on the rows beside it.
    """
    rows = linear.sizes[0]
    count = rows // size
    ones = np.kron(np.eye(count, dtype=np.float32), np.ones((size, 1), np.float32))
    assert linear.x.shape is not None
    leading = linear.x.shape[:-1]
    sums = emit("MatMul", linear.x, emit.constant(ones, np.float32), shape=[*leading, count])
    return emit("Concat", linear.x, sums, axis=-1, shape=[*leading, rows + count])


def _split(emit: Emitter, linear: Linear, size: int) -> ir.Value:
    """The weight's blocks on whole zero points, above what they are off by."""
    rows, columns = linear.sizes

    def made() -> Floats:
        matrix = linear.matrix()
        rest = rests(matrix, size)
        assert rest is not None
        return np.concatenate([matrix - np.repeat(rest, size, axis=0), rest])

    shape = rows + rows // size, columns
    tensor = lazily(made, dtype=ir.DataType.FLOAT, shape=shape)
    return emit.initializer(f"{linear.weight.name}.split", tensor)
