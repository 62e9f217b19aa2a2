"""The manifest of an export, before and after its variants are proved."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import prod
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from vlv_export.exporters import Planned
from vlv_export.fingerprint import versions
from vlv_export.manifest import (
    ENGINES,
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

if TYPE_CHECKING:
    from vlv_export._source import Source

PACKAGES = ("vlv", "numpy", "torch", "transformers", "onnx", "onnxscript", "onnxruntime")
WITHOUT_RUNNING = ("L0", "L5")
"""levels that may pass although no graph was run"""
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
    source: "Source",
    built: Mapping[str, Built],
    *,
    files: Mapping[str, FileEntry],
    capacity: int,
    default: str | None,
) -> Manifest:
    """The manifest of what was built, none of it proved yet."""
    variants = {
        name: placed(each.entry, place_of(each.planned), capacity=capacity)
        for name, each in built.items()
    }
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
        name: replace(
            entry,
            state=state_of(report, not_run=built[name].planned.not_run),
            parity=report.summary(),
        )
        if (report := reports.get(name))
        else entry
        for name, entry in manifest.variants.items()
    }
    return replace(manifest, variants=variants, default=default or default_of(variants))


def default_of(variants: Mapping[str, VariantEntry]) -> str | None:
    """Of those that our runtime runs the first that is proved, or else the first; what engines are
    compiled from only if nothing else is proved, an engine only if nothing else runs."""
    ranks = {name: _rank(entry) for name, entry in variants.items()}
    ours = {name: rank for name, rank in ranks.items() if rank is not None}
    return min(ours, key=ours.__getitem__, default=None)


def _rank(entry: VariantEntry) -> int | None:
    """The lower, the better a default; None for what our runtime does not run."""
    unproved = entry.state != "proved"
    if entry.exporter in ENGINES:
        return None if entry.state == "pending" else 4 + unproved
    if entry.exporter not in RUN_HERE or (entry.for_engines and entry.dtype == "bf16"):
        return None
    return 2 * unproved + entry.for_engines


def state_of(report: Report, *, not_run: str = "") -> State:
    """A variant's state; `not_run`: why it cannot be run here, whatever else was checked."""
    ran = any(
        level.state == "passed" and level.level not in WITHOUT_RUNNING for level in report.levels
    )
    return "proved" if report.verdict == "passed" and ran and not not_run else "built"


def placed(entry: VariantEntry, place: str, *, capacity: int = 0) -> VariantEntry:
    """The entry with its files in the artefact's folder `place`, and its cache described: of
    `capacity`, unless the entry says it itself."""
    graphs = {
        part: replace(
            graph,
            file=_beneath(place, graph.file),
            data=tuple(_beneath(place, name) for name in graph.data),
        )
        for part, graph in entry.graphs.items()
    }
    kv = entry.kv or _cache(graphs.get("head"), capacity)
    return replace(entry, graphs=graphs, kv=kv)


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
