"""Engines of a tiny model, made by the exporter itself and put into an artefact by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tests.export import tiny_artefact
from vlv_core.parts import CAPTION_PARTS, ExportPart
from vlv_export._describe import placed
from vlv_export.exporters import Job, Planned, Request, Weights
from vlv_export.facts import read_generation
from vlv_export.manifest import VariantEntry, read_manifest, write_manifest
from vlv_export.tensorrt._exporter import EngineExporter


def request(out: Path, dtypes: Sequence[str] = ("fp16",)) -> Request:
    """For the model of an artefact."""
    facts = read_generation(out)
    return Request(
        model="tiny",
        dtypes=dtypes,
        parts=CAPTION_PARTS,
        weights=Weights(1000, 100),
        head=Weights(400, 40),
        prefix_length=facts.prefix_length,
        max_length=facts.max_length,
    )


def add(
    out: Path,
    exporter: EngineExporter,
    parts: Mapping[str, ExportPart],
    neutral: Mapping[str, Path],
    *,
    dtypes: Sequence[str] = ("fp16",),
) -> None:
    """Everything that the exporter plans becomes a variant of OUT."""
    made: dict[str, tuple[VariantEntry, Path]] = {}
    for planned in exporter.plan(request(out, dtypes)):
        folder = out / "variants" / planned.name
        folder.mkdir(parents=True)
        made[planned.name] = exporter.build(_job(planned, made, parts, neutral, folder)), folder
    manifest = read_manifest(out)
    variants = {name: placed(entry, f"variants/{name}") for name, (entry, _) in made.items()}
    described = replace(
        manifest,
        tool={"name": "vlv-export", "version": "1"},
        model={**manifest.model, "licence": "none"},
        variants={**manifest.variants, **variants},
    )
    write_manifest(described, out)
    tiny_artefact.relist(out)


def _job(
    planned: Planned,
    made: Mapping[str, tuple[VariantEntry, Path]],
    parts: Mapping[str, ExportPart],
    neutral: Mapping[str, Path],
    folder: Path,
) -> Job:
    graphs = {part: neutral[part] for part in CAPTION_PARTS}
    of, home = made.get(planned.of, (None, folder))
    if of is not None:
        graphs = {part: home / graph.file for part, graph in of.graphs.items()}
    return Job(
        planned=planned,
        graphs=graphs,
        of=of,
        parts=parts,
        assets=folder.parents[1],
        folder=folder,
        tell=lambda text: None,
    )
