"""Which weights a quantised variant holds in how many bits, and how they are multiplied.

The head makes one token at a time, so that reading its weights bounds it: blocks, 4 or 8 bits.
The other parts take many rows at once, so that multiplying bounds them: 8-bit integers, in both
variants. Convolutions stay as they are.
"""

import onnx_ir as ir

from vlv_export.lowering._blocks import Blocks, quantise_blocks, quantise_tables
from vlv_export.lowering._integers import quantise_integers

HEADS = {"int8": Blocks(bits=8), "int4": Blocks(bits=4)}
TABLES = Blocks(bits=8)
"""of the other parts"""


def quantise(graph: ir.Graph, part: str, dtype: str) -> None:
    """Quantise a fused graph for a variant."""
    if part == "head":
        quantise_blocks(graph, HEADS[dtype])
    else:
        quantise_integers(graph)
        quantise_tables(graph, TABLES, {})
