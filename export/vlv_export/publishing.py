"""Putting a variant into an artefact that is in use: the manifest, renamed into place last, decides
what counts."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from vlv_core.errors import ModelError
from vlv_core.files import contained
from vlv_export._describe import default_of
from vlv_export._finish import REPORTS, write_descriptions
from vlv_export.manifest import FileEntry, Manifest, VariantEntry
from vlv_export.parity.report import Report, read_json


def free_place(out: Path, manifest: Manifest, name: str) -> str:
    """A folder of OUT for a variant, which no file of the manifest is in; what an earlier attempt
    has left there is removed."""
    used = {_parent(path) for path in manifest.files}
    place = next(place for place in _places(name) if place not in used)
    shutil.rmtree(out / place, ignore_errors=True)
    return place


def _places(name: str) -> Iterator[str]:
    """A variant cannot take the folder of one that it replaces before the manifest says so."""
    yield f"variants/{name}"
    number = 2
    while True:
        yield f"variants/{name}.{number}"
        number += 1


def with_variant(
    manifest: Manifest,
    name: str,
    entry: VariantEntry,
    *,
    files: Mapping[str, FileEntry],
    instead_of: Sequence[str] = (),
) -> Manifest:
    """The manifest with a variant and its files, in the place of others and of one of its name."""
    gone = {name, *instead_of}
    variants = {each: old for each, old in manifest.variants.items() if each not in gone}
    variants[name] = entry
    dropped = _folders(manifest.variants) - _folders(variants)
    kept = {path: old for path, old in manifest.files.items() if _parent(path) not in dropped}
    default = manifest.default if manifest.default in variants else default_of(variants)
    return replace(manifest, variants=variants, files={**kept, **files}, default=default)


def files_used(entry: VariantEntry) -> list[str]:
    """A variant's graphs and weights, each file once."""
    names = (name for graph in entry.graphs.values() for name in (graph.file, *graph.data))
    return list(dict.fromkeys(names))


def publish(out: Path, manifest: Manifest, reports: Mapping[str, Report]) -> None:
    """Write reports (beside those that OUT has) and card, and last the manifest."""
    try:
        before = read_json(out / REPORTS / "parity.json")
    except ModelError:
        before = {}
    known = {**before, **reports}
    kept = {name: report for name, report in known.items() if name in manifest.variants}
    write_descriptions(out, manifest, kept)


def remove_unlisted(out: Path, *, before: Manifest, after: Manifest) -> None:
    """Remove the files that only the earlier manifest knows."""
    for path in set(before.files) - set(after.files):
        file = contained(out, path)
        file.unlink(missing_ok=True)
        if file.parent != out and not any(file.parent.iterdir()):
            file.parent.rmdir()


def _folders(variants: Mapping[str, VariantEntry]) -> set[str]:
    return {_parent(name) for entry in variants.values() for name in files_used(entry)}


def _parent(path: str) -> str:
    return str(PurePosixPath(path).parent)
