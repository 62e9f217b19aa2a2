"""Where a graph's file says that its weights are, read without the library onnx.

A walk over the file's protocol buffers (onnx.proto, encoding of protobuf.dev) that sees no more
than the tensors of the graph: the rest is skipped by its length.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from vlv_core.errors import ModelError
from vlv_core.files import contained

_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_EXTERNAL, _ENTRY_KEY, _ENTRY_VALUE = 7, 5, 13, 1, 2
"""field numbers of onnx.proto"""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""wire types"""


class Span(NamedTuple):
    """What one tensor occupies of a data file; `end` is 0 where the graph does not say."""

    location: str
    end: int


def check_external_data(graph: Path, allowed: Mapping[str, int]) -> None:
    """The graph's weights lie in the files `allowed` (name beside the graph -> bytes) and fit.

    Raises ModelError if not, or if the graph's file is damaged.
    """
    # a graph has hundreds of tensors and few files
    furthest: dict[str, int] = {}
    for location, end in spans(graph):
        furthest[location] = max(end, furthest.get(location, 0))
    for location, end in furthest.items():
        contained(graph.parent, location)
        if location not in allowed:
            raise ModelError(
                f"{graph} reads weights from {location!r}, which the manifest does not list",
                hint="do not trust this folder",
            )
        if end > allowed[location]:
            raise ModelError(
                f"{graph} reads {end} bytes of {location!r}, which has {allowed[location]}",
                hint="copy the artefact again",
            )


def spans(graph: Path) -> set[Span]:
    """All places where the graph's tensors are stored outside. Raises ModelError if damaged."""
    data = memoryview(graph.read_bytes())
    try:
        return {
            _span(tensor)
            for part in _fields(data, _MODEL_GRAPH)
            for tensor in _fields(part, _GRAPH_INITIALIZER)
            if any(True for _ in _fields(tensor, _TENSOR_EXTERNAL))
        }
    except (IndexError, ValueError) as error:
        raise ModelError(f"{graph} is damaged: {error}", hint="copy the artefact again") from error


def _span(tensor: memoryview) -> Span:
    told = {}
    for entry in _fields(tensor, _TENSOR_EXTERNAL):
        key, value = (b"".join(_fields(entry, each)) for each in (_ENTRY_KEY, _ENTRY_VALUE))
        told[key.decode()] = value.decode()
    offset, length = (int(told.get(each, "0") or "0") for each in ("offset", "length"))
    if offset < 0 or length < 0:
        raise ValueError("an offset below 0")
    return Span(told.get("location", ""), offset + length)


def _fields(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The values of all fields of one number that hold bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        elif kind == _BYTES:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("it ends within a field")
            if number == wanted:
                yield message[at : at + length]
            at += length
        else:
            raise ValueError(f"no field has the wire type {kind}")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at a byte, and where it ends."""
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise ValueError("it ends within a number")
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
