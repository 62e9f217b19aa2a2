"""Which weights a quantised variant holds in how many bits, and how they are multiplied.

The head makes a token at a time, so that reading its weights bounds it; and a language model has
channels of activations so large that rounding whole rows by them changes its words. So it has
blocks, of 4 or 8 bits. Its table of words keeps 8 in both: rounding it to 4 harms as much as
rounding all layers does, and other formats of 4 bits keep it in more too. The other parts have 8
bits in both variants, whole rows and columns, which multiply quickest. Convolutions stay as they
are.
"""

import onnx_ir as ir

from vlv_export.lowering._blocks import Blocks, quantise_blocks, quantise_tables
from vlv_export.lowering._integers import quantise_integers
from vlv_export.lowering._offsets import split_offsets

HEADS = {"int8": Blocks(bits=8), "int4": Blocks(bits=4, symmetric=False)}
TABLES = Blocks(bits=8)
"""of words, and of the other parts"""


def quantise(graph: ir.Graph, part: str, dtype: str) -> None:
    """Quantise a fused graph for a variant."""
    if part == "head":
        if dtype == "int4":
            split_offsets(graph, size=HEADS[dtype].size)
        quantise_blocks(graph, HEADS[dtype], words=TABLES)
    else:
        quantise_integers(graph)
        quantise_tables(graph, TABLES, {})
