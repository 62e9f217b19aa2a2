"""Weights in 4 or 8 bits, by onnxruntime's own quantiser: MatMulNBits and GatherBlockQuantized.

Blocks of a column share a scale; activations stay floats outside, and are rounded to 8 bits a
block inside the kernel (accuracy level 4).
"""

import importlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from vlv_export.lowering._emit import MICROSOFT, Emitter, number, replace
from vlv_export.lowering._linear import Linear, Together, lazily, linears, numbers

LEAST_BLOCK = 16
"""that the kernels know"""
LEAST_TABLE = 1 << 16
"""numbers of a gathered table that is worth it; positions are left as they are"""
UINT8, FLOAT = ir.DataType.UINT8, ir.DataType.FLOAT


@dataclass(frozen=True)
class Blocks:
    """How weights are rounded."""

    bits: int
    size: int = 32
    """numbers of a column that share a scale. With 64 the kernel for 4 bits is a tenth faster, but
    then what a row becomes depends on how many rows are multiplied at once"""
    symmetric: bool = True
    accuracy: int = 4
    """of MatMulNBits: 4 lets the kernel multiply in 8-bit integers"""


def quantise_blocks(graph: ir.Graph, blocks: Blocks, *, words: Blocks | None = None) -> None:
    """All products with constant weights; a gathered table that is tied to one shares its bytes.

    words: of gathered tables, and of the product that scores the words of one; None: as the others
    """
    emit, words = Emitter(graph), words or blocks
    packed: dict[ir.Value, tuple[ir.Value, ...]] = {}
    tables = {node.inputs[0] for node in graph if _is_gather(node)}
    vocabulary = max((int(str(table.shape[0])) for table in tables), default=0)  # type: ignore[union-attr, index]
    for each in linears(graph):
        if each.sizes[0] >= LEAST_BLOCK:
            emit.anchor = each.node
            scores = each.weight in tables or each.sizes[1] == vocabulary
            own = words if scores else blocks
            if each.weight not in packed:
                packed[each.weight] = _packed(emit, each, own)
            replace(each.node, [_product(emit, each, packed[each.weight], own)])
    quantise_tables(graph, words, packed)


def quantise_tables(
    graph: ir.Graph, blocks: Blocks, packed: Mapping[ir.Value, tuple[ir.Value, ...]]
) -> None:
    """Large gathered tables (N, K); `packed` holds those that a product has quantised already."""
    emit = Emitter(graph)
    made = dict(packed)
    for node in tuple(graph):
        table = node.inputs[0] if _is_gather(node) else None
        if table is None:
            continue
        rows = Linear(node, table, table, True, None)
        if table not in packed and not _is_worth(rows):
            continue
        emit.anchor = node
        if table not in made:
            made[table] = _packed(emit, rows, blocks)
        replace(node, [_gather(emit, node, made[table], blocks)])


def _is_gather(node: ir.Node) -> bool:
    """Whether it takes rows of a constant matrix."""
    if node.op_type != "Gather" or node.domain or number(node, "axis", 0):
        return False
    table = node.inputs[0]
    constant = table is not None and table.const_value is not None
    return constant and len(table.shape or ()) == 2 and table.dtype == FLOAT  # type: ignore[union-attr]


def _is_worth(rows: Linear) -> bool:
    columns, count = rows.sizes
    return columns >= LEAST_BLOCK and columns * count >= LEAST_TABLE


def block_size(rows: int, blocks: Blocks) -> int:
    """The wanted size, or the largest that a shorter column fills."""
    return min(blocks.size, max(LEAST_BLOCK, 1 << (rows.bit_length() - 1)))


def _packed(emit: Emitter, linear: Linear, blocks: Blocks) -> tuple[ir.Value, ...]:
    """The weight's numbers, scales and (if not symmetric) zero points, made when written."""
    rows, columns = linear.sizes
    size = block_size(rows, blocks)
    count = -(-rows // size)
    shapes = {
        "packed": (UINT8, (columns, count, size * blocks.bits // 8)),
        "scales": (FLOAT, (columns, count)),
        "zeros": (UINT8, (columns, -(-count * blocks.bits // 8))),
    }
    made = Together(lambda: _round(linear.matrix(), blocks, size))
    return tuple(
        emit.initializer(f"{linear.weight.name}.{name}", made.tensor(name, dtype, shape))
        for name, (dtype, shape) in shapes.items()
        if name != "zeros" or not blocks.symmetric
    )


def _round(matrix: NDArray[Any], blocks: Blocks, size: int) -> Mapping[str, NDArray[Any]]:
    quantiser = _quantiser()
    config = quantiser.DefaultWeightOnlyQuantConfig(
        block_size=size,
        is_symmetric=blocks.symmetric,
        bits=blocks.bits,
        accuracy_level=blocks.accuracy,
    )
    weight = np.ascontiguousarray(matrix, dtype=np.float32)
    packed, scales, zeros = quantiser.DefaultWeightOnlyQuantizer(config).qbits_block_quant(weight)
    return {"packed": packed, "scales": scales, "zeros": zeros}


@cache
def _quantiser() -> ModuleType:
    """onnxruntime's module; importing it sets the root logger up, which is no library's matter."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    module = importlib.import_module("onnxruntime.quantization.matmul_nbits_quantizer")
    root.handlers[:] = handlers
    root.setLevel(level)
    return module


def _product(
    emit: Emitter, linear: Linear, packed: tuple[ir.Value, ...], blocks: Blocks
) -> ir.Value:
    rows, columns = linear.sizes
    product = emit(
        "MatMulNBits",
        linear.x,
        *packed,
        domain=MICROSOFT,
        shape=linear.node.outputs[0].shape,
        K=rows,
        N=columns,
        bits=blocks.bits,
        block_size=block_size(rows, blocks),
        accuracy_level=blocks.accuracy,
    )
    if linear.bias is None:
        return product
    return emit("Add", product, linear.bias, shape=product.shape)


def _gather(emit: Emitter, node: ir.Node, packed: tuple[ir.Value, ...], blocks: Blocks) -> ir.Value:
    """Rows of the product's own table: the same bytes, seen as a matrix."""
    table, ids = node.inputs[:2]
    assert table is not None and table.shape is not None and packed[0].shape is not None
    rows, count, blob = (int(str(size)) for size in packed[0].shape)
    source = packed[0]
    shape = rows, count * blob
    flat = lazily(lambda: numbers(source).reshape(shape), dtype=UINT8, shape=shape)
    return emit(
        "GatherBlockQuantized",
        emit.initializer(f"{source.name}.rows", flat),
        ids,
        *packed[1:],
        domain=MICROSOFT,
        dtype=FLOAT,
        shape=node.outputs[0].shape,
        bits=blocks.bits,
        block_size=block_size(int(str(table.shape[1])), blocks),
        gather_axis=0,
        quantize_axis=1,
    )
