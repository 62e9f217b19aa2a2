"""Level L0 of a graph: is it well formed, is it what its contract says, will a runtime take it.

Nothing is run and no weights are read, so that graphs of any size are checked in moments.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import onnx
import onnx_ir as ir

from vlv_export.lowering._emit import MICROSOFT
from vlv_export.lowering._lint_engine import OPSET as ENGINE_OPSET
from vlv_export.lowering._lint_engine import engine_faults
from vlv_export.lowering._proof import element_name
from vlv_export.manifest import GraphEntry, TensorEntry

FUSED = frozenset(
    {
        "GatherBlockQuantized",
        "GroupQueryAttention",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "MultiHeadAttention",
        "QuickGelu",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    }
)
"""what int8 and int4 graphs may use of onnxruntime's own operators"""
ALLOWED: dict[str, dict[str, frozenset[str] | None]] = {
    "fp32": {"": None},
    "fp16": {"": None},
    "bf16": {"": None},
    "int8": {"": None, MICROSOFT: FUSED},
    "int4": {"": None, MICROSOFT: FUSED},
}
"""dtype -> domain -> operators; None are all that the opset has"""
OPSETS = {"fp32": 20, "fp16": 20, "bf16": 22, "int8": 20, "int4": 20}
"""dtype -> opset of its graphs: what runtimes of two years ago read; the first with bf16 Conv"""


def lint(path: Path, part: str, entry: GraphEntry, dtype: str) -> list[str]:
    """What is wrong with a graph's file, in sentences; nothing for a sound one.

    `entry` is the graph's contract: names, element types and shapes, axes by name. A graph of the
    opset that engines are compiled from is also held to what their compiler takes.
    """
    try:
        model = ir.load(path)
    except Exception as error:
        return [f"part {part!r}: {path.name} cannot be read: {_first_line(error)}"]
    graph = model.graph
    faults = [
        *_interface("input", graph.inputs, entry.inputs),
        *_interface("output", graph.outputs, entry.outputs),
        *(engine_faults(model) if entry.opset == ENGINE_OPSET else _operators(model, dtype)),
        *_opset(model, entry, dtype),
        *_external(graph, path, entry),
    ]
    # The checker follows paths of external data: only once they are known to be harmless.
    return [f"part {part!r}: {fault}" for fault in faults or [*_checked(path)]]


def _interface(
    kind: str, values: Sequence[ir.Value], entries: Sequence[TensorEntry]
) -> Iterator[str]:
    found = [value.name or "" for value in values]
    wanted = [entry.name for entry in entries]
    if found != wanted:
        yield f"{kind}s are {', '.join(found)}; the contract says {', '.join(wanted)}"
        return
    for value, entry in zip(values, entries, strict=True):
        element = tensor_entry(value).dtype
        if element != entry.dtype:
            yield f"{kind} {entry.name!r} is {element}; the contract says {entry.dtype}"
        yield from _axes(kind, value, entry)


def _axes(kind: str, value: ir.Value, entry: TensorEntry) -> Iterator[str]:
    shape = tensor_entry(value).shape
    if shape == entry.shape:
        return
    baked = [
        axis
        for axis, size in zip(entry.shape, shape, strict=False)
        if isinstance(axis, str) and isinstance(size, int)
    ]
    if baked:
        yield f"axis {baked[0]!r} of {kind} {entry.name!r} is baked in: {_told(shape)}"
    else:
        yield f"{kind} {entry.name!r} is {_told(shape)}; the contract says {_told(entry.shape)}"


def tensor_entry(value: ir.Value) -> TensorEntry:
    """Name, element type as numpy names it, and shape of a graph's input or output."""
    shape = tuple(each if isinstance(each, int) else str(each.value) for each in value.shape or ())
    element = "unknown" if value.dtype is None else element_name(value.dtype)
    return TensorEntry(name=value.name or "", dtype=element, shape=shape)


def _operators(model: ir.Model, dtype: str) -> Iterator[str]:
    allowed = ALLOWED[dtype]
    told = set()
    for node in model.graph:
        known = allowed.get(node.domain, frozenset())
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        if known is None:
            sound = onnx.defs.has(node.op_type, max_inclusive_version=OPSETS[dtype])
        else:
            sound = node.op_type in known
        if not sound and name not in told:
            told.add(name)
            yield f"operator {name} is not one that {dtype} graphs may use"


def _opset(model: ir.Model, entry: GraphEntry, dtype: str) -> Iterator[str]:
    found = model.opset_imports.get("", 0)
    if found != entry.opset:
        yield f"opset is {found}; the contract says {entry.opset}"
    elif found > OPSETS[dtype] and found != ENGINE_OPSET:
        yield f"opset is {found}; {dtype} graphs have {OPSETS[dtype]} at most"


def _external(graph: ir.Graph, path: Path, entry: GraphEntry) -> Iterator[str]:
    """Weights' files: inside the folder, declared, there, and long enough."""
    needed: dict[str, int] = {}
    for value in graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            end = (tensor.offset or 0) + (tensor.length or 0)
            location = str(tensor.location)
            needed[location] = max(needed.get(location, 0), end)
    declared = {PurePosixPath(name).name for name in entry.data}
    for location, end in needed.items():
        file = path.parent / location
        if not re.fullmatch(r"[\w.-]+", location) or location in (".", ".."):
            yield f"weights are in {location!r}, which is not beside the graph"
        elif location not in declared:
            yield f"weights are in {location!r}, which the contract does not list"
        elif not file.is_file():
            yield f"weights' file {location!r} is missing"
        elif file.stat().st_size < end:
            yield f"weights' file {location!r} ends at {file.stat().st_size}, before {end} bytes"


def _checked(path: Path) -> Iterator[str]:
    """onnx's own checker, and its shape inference: strict where it knows every operator."""
    try:
        onnx.checker.check_model(str(path), full_check=False)
        model = onnx.load(str(path), load_external_data=False)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:
        yield f"onnx refuses the graph: {_first_line(error)}"


def _told(shape: Iterable[int | str]) -> str:
    return f"({', '.join(str(size) for size in shape)})"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
