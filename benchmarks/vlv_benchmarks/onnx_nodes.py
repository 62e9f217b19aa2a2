"""How many nodes a graph has, read from an ONNX file without the package onnx."""

from collections.abc import Iterator

GRAPH, NODE = 7, 1
"""numbers of the fields ModelProto.graph and GraphProto.node in onnx.proto"""


def node_count(model: bytes) -> int:
    """Nodes of the main graph of a serialised ModelProto, those of its functions and branches not
    counted. Raises ValueError for bytes that are none."""
    view = memoryview(model)
    return sum(
        number == NODE
        for graph in (value for field, value in _fields(view) if field == GRAPH)
        for number, _ in _fields(graph)
    )


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and bytes of each field of a message; of a plain number, no bytes. How fields are
    written: https://protobuf.dev/programming-guides/encoding"""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        size = 0
        match tag & 7:
            case 0:
                _, at = _varint(message, at)
            case 1:
                size = 8
            case 2:
                size, at = _varint(message, at)
            case 5:
                size = 4
            case other:
                raise ValueError(f"no ONNX model: a field of kind {other} at byte {at}")
        if at + size > len(message):
            raise ValueError(f"no ONNX model: it ends within the field at byte {at}")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first, and where the next field begins."""
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("no ONNX model: it ends within a number")
