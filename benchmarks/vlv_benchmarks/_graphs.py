"""A part alone as vlv exports it, without the other parts of its model."""

from pathlib import Path

import onnx_ir as ir

from vlv_core.parts import ExportPart
from vlv_export._capture import capture
from vlv_export.lowering._variant import build_variant
from vlv_export.manifest import SCHEMA, Manifest, VariantEntry, write_manifest

NEUTRAL = "neutral"
"""folder beside the variants, of the graph that all are made from; of no use after that"""


def write_graphs(part: ExportPart, folder: Path, *, dtype: str) -> None:
    """`folder`: an artefact of this one part, and of one variant, which is called as its dtype."""
    neutral = folder.parent / NEUTRAL / f"{part.name}.onnx"
    if not neutral.is_file():
        neutral.parent.mkdir(parents=True, exist_ok=True)
        ir.save(capture(part), neutral, external_data=f"{part.name}.onnx.data")
    graphs = build_variant({part.name: neutral}, folder, dtype=dtype)
    entry = VariantEntry(exporter="onnx", dtype=dtype, state="built", graphs=graphs)
    manifest = Manifest(
        schema=SCHEMA, created="", tool={}, packages={}, host={}, model={}, files={},
        variants={dtype: entry}, default=dtype,
    )  # fmt: skip
    write_manifest(manifest, folder)
