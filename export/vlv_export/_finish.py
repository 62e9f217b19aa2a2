"""The end of an export: the artefact is put together, proved, described and moved into place."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vlv_core.errors import NotProved
from vlv_core.files import write_atomically
from vlv_export._describe import Built, describe, judged, place_of
from vlv_export.card import card
from vlv_export.facts import read_generation
from vlv_export.fingerprint import code_of, file_entry, files_of, key_of
from vlv_export.manifest import Manifest, write_manifest
from vlv_export.parity import EXPORT_LEVELS
from vlv_export.parity.report import Report, from_data, to_data, write_json
from vlv_export.parity.tables import markdown
from vlv_export.pipeline import Order, Outcome, Watcher
from vlv_export.proving import prove
from vlv_export.workspace import Workspace

if TYPE_CHECKING:
    from vlv_export._source import Source

REPORTS = "reports"


def finish(
    space: Workspace,
    order: Order,
    source: "Source",
    *,
    built: Mapping[str, Built],
    small: Mapping[str, Path],
    watcher: Watcher,
) -> Outcome:
    """Assemble, prove, describe, and move into place.

    `small` are, by key, the folders whose files stand at the artefact's top. Raises NotProved, with
    everything in OUT.rejected.
    """
    copied = {name: folder / name for folder in small.values() for name in files_of(folder)}
    entries = {
        f"{place_of(each.planned)}/{name}": entry
        for each in built.values()
        for name, entry in each.files.items()
    }
    space.assemble(copied, kept=entries)
    entries |= {name: file_entry(path) for name, path in copied.items()}
    capacity = read_generation(space.artefact).max_length
    manifest = describe(source, built, files=entries, capacity=capacity, default=order.default)
    # Parity opens the artefact as a user would, so there must be a manifest already.
    write_manifest(manifest, space.artefact)
    reports = {}
    for name, each in built.items():
        if each.entry.state != "pending":
            key = key_of(small=list(small), built=each.key)
            reports[name] = _prove(space, name, key=key, order=order, watcher=watcher)
    manifest = judged(manifest, built, reports, default=order.default)
    write_descriptions(space.artefact, manifest, reports)
    return _settle(space, manifest, reports)


def _prove(space: Workspace, name: str, *, key: str, order: Order, watcher: Watcher) -> Report:
    """The variant's report, which is kept for a repeated export only if nothing failed."""
    step = f"prove {name}"
    key = key_of(
        proved=key,
        levels=EXPORT_LEVELS,
        code=code_of(["vlv_core", "vlv_export", "onnxruntime"]),
    )
    watcher.step(step, kept=space.done(step, key))
    if space.done(step, key):
        return from_data(space.note(step), where=step)
    report = prove(
        space.artefact,
        name,
        EXPORT_LEVELS,
        plugins=order.plugins,
        threads=order.threads,
        tell=watcher.tell,
    )
    if report.verdict != "failed":
        space.step(step, key, lambda folder: to_data(report))
    return report


def write_descriptions(folder: Path, manifest: Manifest, reports: Mapping[str, Report]) -> None:
    """Reports and card, and the manifest last."""
    (folder / REPORTS).mkdir(exist_ok=True)
    write_json(reports, folder / REPORTS / "parity.json")
    write_atomically(folder / REPORTS / "parity.md", markdown(reports).encode())
    write_atomically(folder / "README.md", card(manifest, reports).encode())
    write_manifest(manifest, folder)


def _settle(space: Workspace, manifest: Manifest, reports: Mapping[str, Report]) -> Outcome:
    failed = [name for name, report in reports.items() if report.verdict == "failed"]
    if not failed:
        space.accept()
        return Outcome(folder=space.out, manifest=manifest, reports=reports)
    rejected = space.reject()
    first = reports[failed[0]].failures()[0]
    others = f"; {', '.join(failed[1:])} failed too" if failed[1:] else ""
    raise NotProved(
        f"{failed[0]} is not what the model says: {first}{others}",
        hint=f"{rejected / REPORTS / 'parity.md'} has the figures; --dtype exports other variants",
    )
