"""What precision a variant really has: read from its graphs' own weights, not from its name."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx_ir as ir

from vlv_export.manifest import GraphEntry

PACKED = {"MatMulNBits": 1, "GatherBlockQuantized": 0}
"""operators whose weight holds `bits` bits a number -> which input that is; scales follow it"""


def proved_precision(
    folder: Path, entries: Mapping[str, GraphEntry], *, words: bool = True
) -> dict[str, float]:
    """Element type -> its share of the weights' numbers, of all parts, largest first.

    Packed weights count as `int4` or `int8`, whatever bytes hold them; their scales are no weights.
    A tensor that several graphs share on disk counts once. Without `words`, packed tables of them
    and the products that score them are left out.
    """
    counts: dict[str, int] = defaultdict(int)
    seen: set[tuple[str, int]] = set()
    for entry in entries.values():
        graph = ir.load(folder / entry.file).graph
        left_out = set() if words else _of_words(graph)
        for name, element, place, numbers in _weights(graph):
            if place not in seen and name not in left_out:
                counts[element] += numbers
            seen.add(place)
    total = sum(counts.values()) or 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return {element: count / total for element, count in ordered}


def _weights(graph: ir.Graph) -> Iterable[tuple[str, str, tuple[str, int], int]]:
    """Name, element type, place and numbers of each weight; small constants are none."""
    bits, scales = _packed(graph)
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor) and name not in scales:
            place = str(Path(tensor.base_dir) / tensor.location), tensor.offset or 0
            if name in bits:
                yield name, f"int{bits[name]}", place, tensor.nbytes * 8 // bits[name]
            else:
                yield name, element_name(tensor.dtype), place, tensor.size


def _of_words(graph: ir.Graph) -> set[str]:
    """Names of packed tables that are gathered, and of products of as many columns."""
    tables = [node.inputs[0] for node in graph if node.op_type == "GatherBlockQuantized"]
    rows = {table.shape[0] for table in tables if table is not None and table.shape}
    products = [
        node.inputs[1] for node in graph
        if node.op_type == "MatMulNBits" and node.attributes["N"].value in rows
    ]  # fmt: skip
    return {value.name or "" for value in (*tables, *products) if value is not None}


def _packed(graph: ir.Graph) -> tuple[dict[str, int], set[str]]:
    """Bits of each packed weight, and the names of scales and zero points."""
    bits, scales = {}, set()
    for node in graph:
        if node.op_type in PACKED:
            first = PACKED[node.op_type]
            names = [value.name or "" for value in node.inputs[first:] if value is not None]
            if first == 0:
                del names[1]
            bits[names[0]] = node.attributes["bits"].value
            scales.update(names[1:])
        elif node.op_type == "MatMulIntegerToFloat":
            scales.update(value.name or "" for value in node.inputs[2:5] if value is not None)
    return bits, scales


def element_name(dtype: ir.DataType) -> str:
    """As numpy or ml_dtypes name it."""
    name = dtype.name.lower()
    return {"float": "float32", "double": "float64"}.get(name, name)
