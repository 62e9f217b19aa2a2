"""One variant: neutral graphs lowered, converted, and written to a folder."""

from collections.abc import Callable, Mapping
from pathlib import Path

import onnx_ir as ir

from vlv_core.errors import UsageError
from vlv_export.lowering._cleanup import clean, drop_unused, finish
from vlv_export.lowering._emit import MICROSOFT, Emitter
from vlv_export.lowering._fused import fuse_attention, fuse_caches, fuse_norms
from vlv_export.lowering._linear import fold_transposes, join_siblings, tie_tables
from vlv_export.lowering._lint import OPSETS, tensor_entry
from vlv_export.lowering._packing import fuse_silu, pack_attention, split_projections
from vlv_export.lowering._portable import lower
from vlv_export.lowering._precision import LOW, lower_precision
from vlv_export.lowering._proof import proved_precision
from vlv_export.lowering._quantise import HEADS, quantise
from vlv_export.lowering._store import WeightStore, data_files
from vlv_export.lowering._tail import add_tail
from vlv_export.lowering._views import cancel_views
from vlv_export.manifest import GraphEntry

__all__ = ["DTYPES", "build_variant", "proved_precision"]
DTYPES = ("fp32", "fp16", "bf16", "int8", "int4")
IR_VERSION = 10
"""of onnx's format: that of opset 21 and before, which runtimes of the last two years read"""


def build_variant(
    neutral: Mapping[str, Path],
    folder: Path,
    *,
    dtype: str,
    progress: Callable[[str], None] | None = None,
) -> dict[str, GraphEntry]:
    """Write part -> graph file of a variant, and say what was written, relative to `folder`.

    `neutral` maps parts to neutral ONNX files, whose weights are mapped, not loaded. Raises
    UsageError for a dtype that does not exist or cannot hold the weights.
    """
    if dtype not in DTYPES:
        raise UsageError(f"no dtype {dtype!r}; there are {', '.join(DTYPES)}")
    folder.mkdir(parents=True, exist_ok=True)
    store = WeightStore(folder)
    entries = {}
    for part, path in neutral.items():
        if progress is not None:
            progress(f"{dtype}: {part}")
        model = ir.load(path)
        _convert(model, part, dtype)
        entries[part] = write_graph(model, part, folder, store)
    return entries


def _convert(model: ir.Model, part: str, dtype: str) -> None:
    graph = model.graph
    fold_transposes(graph)
    tie_tables(graph)
    if dtype in HEADS:
        fuse(graph, join=part == "head")
    lower_rest(graph)
    if part == "head":
        add_tail(graph)
    clean(model)
    if dtype in HEADS:
        quantise(graph, part, dtype)
        clean(model)
    elif dtype in LOW:
        graph.opset_imports[""] = OPSETS[dtype]
        lower_precision(model, part, dtype)
        finish(model)


def fuse(graph: ir.Graph, *, join: bool) -> None:
    """onnxruntime's own operators where they fit; `join` products of one input, or split."""
    if not join:
        split_projections(graph)
        drop_unused(graph)
    fuse_norms(graph)
    fuse_caches(graph)
    fuse_attention(graph)
    cancel_views(graph)
    drop_unused(graph)
    pack_attention(graph)
    drop_unused(graph)
    if join:
        join_siblings(graph)
    fuse_silu(graph)
    graph.opset_imports[MICROSOFT] = 1


def lower_rest(graph: ir.Graph) -> None:
    """Whatever `vlv` nodes are left and used, in standard operators."""
    drop_unused(graph)
    emit = Emitter(graph)
    for node in tuple(graph):
        if node.domain == "vlv":
            lower(emit, node)


def write_graph(
    model: ir.Model, part: str, folder: Path, store: WeightStore, *, ir_version: int = IR_VERSION
) -> GraphEntry:
    """The part's files, and its entry."""
    store.write(model.graph, f"{part}.data")
    model.ir_version = ir_version
    ir.save(model, folder / f"{part}.onnx")
    caches = [value.name or "" for value in model.graph.inputs if _is_past(value)]
    return GraphEntry(
        file=f"{part}.onnx",
        data=data_files(model.graph),
        opset=model.graph.opset_imports[""],
        inputs=tuple(tensor_entry(value) for value in model.graph.inputs),
        outputs=tuple(tensor_entry(value) for value in model.graph.outputs),
        aliases={name: name.replace("past.", "present.", 1) for name in caches},
        shared_cache=bool(caches),
    )


def _is_past(value: ir.Value) -> bool:
    return (value.name or "").startswith("past.")
