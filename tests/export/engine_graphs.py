"""Variants of the graphs that engines are compiled from, and an engine that is one of them."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.export import tiny_artefact
from vlv_core.captioner import Captioner
from vlv_export._yardstick import write_yardstick
from vlv_export.golden import GOLDEN, read_golden
from vlv_export.lowering._engine import build_engine_graphs
from vlv_export.manifest import GraphEntry, VariantEntry, read_manifest, write_manifest
from vlv_export.yardstick import YARDSTICK

CAPACITIES = (16, 24)
"""of the tiny model's 24 positions"""
ENGINE = "rtx-fp16-sm89"


def add(
    out: Path,
    neutral: Mapping[str, Path],
    *,
    dtypes: Sequence[str],
    capacities: Sequence[int] = CAPACITIES,
) -> None:
    """Write variants onnx24-DTYPE into an artefact."""
    manifest = read_manifest(out)
    variants = dict(manifest.variants)
    for dtype in dtypes:
        home = f"variants/onnx24-{dtype}"
        graphs = build_engine_graphs(neutral, out / home, dtype=dtype, capacities=capacities)
        variants[f"onnx24-{dtype}"] = VariantEntry(
            exporter="onnx",
            dtype=dtype,
            state="proved",
            graphs={part: tiny_artefact._within(home, entry) for part, entry in graphs.items()},
            kv={"capacity": max(capacities)},
        )
    write_manifest(replace(manifest, variants=variants), out)
    tiny_artefact.relist(out)


def add_yardstick(out: Path, captioner: Captioner) -> None:
    """Write yardstick.json beside the golden values of this model."""
    backend: Any = captioner.backend
    write_yardstick(deepcopy(backend.model), read_golden(out / GOLDEN), out / YARDSTICK)
    tiny_artefact.relist(out)


def pretend_engine(out: Path, *, most: int = 3, prefix: int = 4, **compat: Any) -> None:
    """A variant of engines whose files are no engines: for sm89, of onnx24-fp16."""
    manifest = read_manifest(out)
    graphs = {}
    for part, entry in manifest.variant("onnx24-fp16").graphs.items():
        file = f"variants/{ENGINE}/{part}.engine"
        (out / file).parent.mkdir(exist_ok=True)
        (out / file).write_bytes(f"the engine of {part}".encode())
        graphs[part] = replace(entry, file=file, data=(), opset=0)
    built = {
        "sm": [89],
        "os": "Linux",
        "machine": "x86_64",
        "runtime": "tensorrt-rtx",
        "version": "1.7.1.116",
        "graphs": "onnx24-fp16",
        "hardware": "same",
        "version_compatible": False,
        "device_bytes": 10**6,
    }
    engines = VariantEntry(
        exporter="rtx",
        dtype="fp16",
        state="built",
        graphs=graphs,
        profiles={part: _profiles(part, each, most, prefix) for part, each in graphs.items()},
        kv={"capacity": max(CAPACITIES)},
        compat={**built, **compat},
    )
    write_manifest(replace(manifest, variants={**manifest.variants, ENGINE: engines}), out)
    tiny_artefact.relist(out)


def _profiles(
    part: str, entry: GraphEntry, most: int, prefix: int
) -> list[dict[str, tuple[int, int, int]]]:
    rows = (1, 2, most)
    if part.startswith("head"):
        lengths = ((1, prefix, prefix), (1, 1, 1))
        return [{"batch": rows, "length": each, "k": (1, 4, 512)} for each in lengths]
    axes = {axis for each in entry.inputs for axis in each.shape if isinstance(axis, str)}
    return [{axis: rows if axis == "batch" else (1, 4, 77) for axis in axes}]
