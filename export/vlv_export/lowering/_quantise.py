"""Which weights a quantised variant holds in how many bits, and how they are multiplied.

A product in 8 bits is one of whole rows and columns of integers, which is quickest for all that
has many rows: pictures, prefixes, batches. The head of int4 makes one token at a time, so that
reading its weights bounds it: blocks of 4 bits. Convolutions stay as they are.
"""

import onnx_ir as ir

from vlv_export.lowering._blocks import Blocks, quantise_blocks, quantise_tables
from vlv_export.lowering._integers import quantise_integers

QUANTISED = ("int8", "int4")
HEAD = Blocks(bits=4, symmetric=False)
"""of int4"""
TABLES = Blocks(bits=8)
"""gathered, and not multiplied by"""


def quantise(graph: ir.Graph, part: str, dtype: str) -> None:
    """Quantise a fused graph for a variant."""
    if part == "head" and dtype == "int4":
        quantise_blocks(graph, HEAD)
    else:
        quantise_integers(graph)
        quantise_tables(graph, TABLES, {})
