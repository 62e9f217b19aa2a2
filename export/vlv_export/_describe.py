"""The manifest of an export, before and after its variants are proved."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import prod
from pathlib import PurePosixPath

from vlv_export._source import Source
from vlv_export.exporters import Planned
from vlv_export.fingerprint import versions
from vlv_export.manifest import (
    RUN_HERE,
    SCHEMA,
    FileEntry,
    GraphEntry,
    Manifest,
    State,
    TensorEntry,
    VariantEntry,
)
from vlv_export.parity.report import Report

PACKAGES = ("vlv", "numpy", "torch", "transformers", "onnx", "onnxscript", "onnxruntime")
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1, "uint8": 1}
"""of an element of the cache"""


@dataclass(frozen=True, kw_only=True)
class Built:
    """A variant in the workspace, or one that waits."""

    planned: Planned
    entry: VariantEntry
    """its graphs' files are relative to its folder"""
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    """relative to its folder"""
    key: str = ""
    """of the step that built it"""


def place_of(planned: Planned) -> str:
    """A variant's folder in the artefact."""
    return f"variants/{planned.name}"


def describe(
    source: Source,
    built: Mapping[str, Built],
    *,
    files: Mapping[str, FileEntry],
    capacity: int,
    default: str | None,
) -> Manifest:
    """The manifest of what was built, none of it proved yet."""
    variants = {name: _placed(each, capacity) for name, each in built.items()}
    return Manifest(
        schema=SCHEMA,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tool={"name": "vlv-export", "version": versions(["vlv"]).get("vlv", "")},
        packages=versions(PACKAGES),
        host={
            "os": platform.system(),
            "machine": platform.machine(),
            "python": platform.python_version(),
        },
        model={
            "name": source.name,
            "licence": source.licence,
            "domain": source.domain,
            "random_weights": source.random,
            "parts": dict(source.digests),
        },
        files=dict(files),
        variants=variants,
        default=default or default_of(variants),
    )


def judged(
    manifest: Manifest,
    built: Mapping[str, Built],
    reports: Mapping[str, Report],
    *,
    default: str | None,
) -> Manifest:
    """The manifest with each variant's state and parity, and its default unless it was chosen."""
    variants = {
        name: replace(entry, state=_state(built[name], report), parity=report.summary())
        if (report := reports.get(name))
        else entry
        for name, entry in manifest.variants.items()
    }
    return replace(manifest, variants=variants, default=default or default_of(variants))


def default_of(variants: Mapping[str, VariantEntry]) -> str | None:
    """Of those that our runtime runs the first that is proved, or else the first."""
    ours = {name: entry for name, entry in variants.items() if entry.exporter in RUN_HERE}
    proved = [name for name, entry in ours.items() if entry.state == "proved"]
    return next(iter([*proved, *ours]), None)


def _state(built: Built, report: Report) -> State:
    return "proved" if report.verdict == "passed" and not built.planned.not_run else "built"


def _placed(built: Built, capacity: int) -> VariantEntry:
    """The entry with paths as the artefact has them, and its cache described."""
    place = place_of(built.planned)
    graphs = {
        part: replace(
            graph,
            file=_beneath(place, graph.file),
            data=tuple(_beneath(place, name) for name in graph.data),
        )
        for part, graph in built.entry.graphs.items()
    }
    kv = built.entry.kv or _cache(graphs.get("head"), capacity)
    return replace(built.entry, graphs=graphs, kv=kv)


def _cache(head: GraphEntry | None, capacity: int) -> dict[str, int | str]:
    past = [] if head is None else [each for each in head.inputs if each.name.startswith("past.")]
    if not past:
        return {}
    return {
        "capacity": capacity,
        "dtype": past[0].dtype,
        "bytes_per_token": sum(map(_bytes_per_token, past)),
    }


def _bytes_per_token(tensor: TensorEntry) -> int:
    """Of one row; heads and width are the numbers among the axes."""
    return BYTES[tensor.dtype] * prod(size for size in tensor.shape if isinstance(size, int))


def _beneath(place: str, name: str) -> str:
    return str(PurePosixPath(place, name))
