"""Which weights a quantised variant holds in how many bits, and how they are multiplied.

The head makes one token at a time, so that reading its weights bounds it: blocks, 4 or 8 bits.
The other parts have 8 bits in both variants. Multiplying bounds a large one: 8-bit integers, a row
at a time, which costs it nothing. A small one gains from batches, so that its activations are
rounded block by block, which keeps rows apart. Convolutions stay as they are.
"""

import onnx_ir as ir

from vlv_export.lowering._blocks import Blocks, quantise_blocks, quantise_tables
from vlv_export.lowering._integers import quantise_integers
from vlv_export.lowering._linear import linears

HEADS = {"int8": Blocks(bits=8), "int4": Blocks(bits=4, symmetric=False)}
OTHERS = Blocks(bits=8)
"""tables of the other parts, and all weights of small ones"""
LARGE = 16 << 20
"""weights of a part that is bound by multiplying even a row at a time"""


def quantise(graph: ir.Graph, part: str, dtype: str) -> None:
    """Quantise a fused graph for a variant."""
    if part == "head":
        quantise_blocks(graph, HEADS[dtype])
    elif sum(each.sizes[0] * each.sizes[1] for each in linears(graph)) < LARGE:
        quantise_blocks(graph, OTHERS)
    else:
        quantise_integers(graph)
        quantise_tables(graph, OTHERS, {})
