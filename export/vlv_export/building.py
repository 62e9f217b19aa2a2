"""Engines for this machine, from the graphs that an artefact holds: `vlv-export build`.

Needs neither torch nor onnx, nor the model. OUT is as it was until a new manifest is renamed into
place; the work is done in OUT/.build, and goes on there if it was stopped.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vlv_core.config import convert
from vlv_core.errors import ModelError, NotProved, UsageError, pip_line
from vlv_core.files import contained
from vlv_core.registry import Plugins
from vlv_export._describe import placed, state_of
from vlv_export.fingerprint import code_of, files_of, key_of
from vlv_export.manifest import (
    ENGINES,
    FileEntry,
    Manifest,
    VariantEntry,
    read_manifest,
    write_manifest,
)
from vlv_export.parity import EXPORT_LEVELS
from vlv_export.parity.report import Report
from vlv_export.pipeline import Outcome, Watcher, watched
from vlv_export.preflight import check_file
from vlv_export.proving import prove
from vlv_export.publishing import files_used, free_place, publish, remove_unlisted, with_variant
from vlv_export.tensorrt.engines import (
    CODE_BYTES,
    Target,
    compile_engines,
    profiles_of,
    target_like,
)
from vlv_export.tensorrt.libraries import library
from vlv_export.tensorrt.proof import not_run_here
from vlv_export.tensorrt.settings import named
from vlv_export.workspace import Workspace, work_within


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A variant that is to be built."""

    name: str
    like: str
    """the variant whose profiles and options it takes; it goes if it was pending"""
    target: Target


def plan_builds(manifest: Manifest, *, variants: Sequence[str], sm: Sequence[int]) -> list[Wanted]:
    """What is to be built: the variants named, or those that wait; with `sm` without names, every
    kind of engine that the artefact has, for those GPUs.

    Raises UsageError for a variant that is no engine, and for GPUs that its compiler does not know.
    """
    engines = {name: each for name, each in manifest.variants.items() if each.exporter in ENGINES}
    for name in variants:
        if manifest.variant(name).exporter not in ENGINES:
            raise UsageError(
                f"{name} is no engine; engines of this artefact: {', '.join(engines) or 'none'}",
                hint="vlv-export MODEL -o OUT --rtx makes an artefact with engines",
            )
    pending = [name for name, each in engines.items() if each.state == "pending"]
    wanted: dict[str, Wanted] = {}
    for name in variants or (engines if sm else pending):
        entry = engines[name]
        target = target_like(entry, sm=sm if entry.exporter == "rtx" or variants else ())
        made = named(target.library, target.dtype, target.sm)
        wanted.setdefault(made, Wanted(name=made, like=name, target=target))
    return list(wanted.values())


def unproved_here(manifest: Manifest) -> list[str]:
    """Engines that nobody has run, and that this machine can run."""
    return [
        name
        for name, entry in manifest.variants.items()
        if entry.exporter in ENGINES and entry.state == "built" and not not_run_here(entry)
    ]


def require_here(wanted: Sequence[Wanted]) -> None:
    """Raise NotProved if this machine cannot build one of them, with what is missing."""
    for each in wanted:
        if waits := each.target.waits():
            absent = library(each.target.library).version is None
            supplies = f"{pip_line((), each.target.library)} supplies the package; " * absent
            raise NotProved(
                waits, hint=f"{supplies}run the same command on the machine that has the GPU"
            )


def build_engines(
    out: Path,
    wanted: Sequence[Wanted],
    *,
    plugins: Plugins,
    watcher: Watcher,
    threads: int | None = None,
) -> Outcome:
    """Build, prove, and add to OUT; prove as well what was built elsewhere and can be run here.

    Raises NotProved, with OUT as it was, if an engine is not what the model says; and what
    `require_here` raises.
    """
    require_here(wanted)
    with work_within(out) as space:
        work = _Work(space, plugins, threads, watcher)
        manifest = read_manifest(out)
        names = [each.name for each in wanted]
        older = [name for name in unproved_here(manifest) if name not in names]
        steps = [f"{do} {name}" for name in names for do in ("build", "prove")]
        with watched(watcher, [*steps, *(f"prove {name}" for name in older)]):
            space.require_space(sum(_size(manifest, each) for each in wanted))
            reports = {}
            for each in wanted:
                manifest, reports[each.name] = work.add(manifest, each)
            for name in older:
                manifest, reports[name] = work.prove_again(manifest, name)
        shutil.rmtree(space.folder, ignore_errors=True)
    return Outcome(folder=out, manifest=manifest, reports=reports)


@dataclass(frozen=True)
class _Work:
    space: Workspace
    plugins: Plugins
    threads: int | None
    watcher: Watcher

    def add(self, manifest: Manifest, wanted: Wanted) -> tuple[Manifest, Report]:
        """Build a variant and publish it; the manifest with it, and its report."""
        folder, entry, files = self._build(manifest, wanted)
        place = free_place(self.space.out, manifest, wanted.name)
        entry = placed(entry, place)
        listed = {f"{place}/{name}": each for name, each in files.items()}
        report = self._prove(manifest, wanted.name, entry, listed, folder, place)
        entry = replace(entry, state=state_of(report), parity=report.summary())
        instead = [wanted.like] if manifest.variant(wanted.like).state == "pending" else []
        added = with_variant(manifest, wanted.name, entry, files=listed, instead_of=instead)
        home = self.space.out / place
        home.parent.mkdir(exist_ok=True)
        folder.replace(home)
        publish(self.space.out, added, {wanted.name: report})
        remove_unlisted(self.space.out, before=manifest, after=added)
        return added, report

    def _build(
        self, manifest: Manifest, wanted: Wanted
    ) -> tuple[Path, VariantEntry, dict[str, FileEntry]]:
        like = manifest.variant(wanted.like)
        of = _graphs(self.space.out, manifest, like)
        graphs = {part: contained(self.space.out, g.file) for part, g in of.graphs.items()}
        names = files_used(of)

        def make(folder: Path) -> dict[str, Any]:
            for name in names:
                check_file(self.space.out, name, manifest.file(name), hashed=True)
            entry = compile_engines(
                graphs,
                of,
                source=like.compat["graphs"],
                target=wanted.target,
                profiles=profiles_of(like),
                folder=folder,
                tell=self.watcher.tell,
            )
            files = {name: asdict(each) for name, each in files_of(folder).items()}
            return {"entry": asdict(entry), "files": files}

        key = key_of(
            target=asdict(wanted.target),
            profiles=like.profiles,
            graphs={name: manifest.file(name).sha256 for name in names},
            version=library(wanted.target.library).version,
            code=code_of(["vlv_export.tensorrt"]),
        )
        step = f"build {wanted.name}"
        self.watcher.step(step, kept=self.space.done(step, key))
        folder = self.space.step(step, key, make)
        note = self.space.note(step)
        entry = convert(VariantEntry, note["entry"], wanted.name)
        return folder, entry, {n: convert(FileEntry, f, n) for n, f in note["files"].items()}

    def _prove(
        self,
        manifest: Manifest,
        name: str,
        entry: VariantEntry,
        files: Mapping[str, FileEntry],
        folder: Path,
        place: str,
    ) -> Report:
        """The report of a variant that is not in OUT yet: of a small artefact with it alone."""
        self.watcher.step(f"prove {name}", kept=False)
        alone = self.space.folder / "alone"
        shutil.rmtree(alone, ignore_errors=True)
        small = [path for path in manifest.files if not path.startswith("variants/")]
        for path in small:
            check_file(self.space.out, path, manifest.file(path), hashed=True)
            (alone / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(contained(self.space.out, path), alone / path)
        home = alone / place
        home.parent.mkdir(parents=True, exist_ok=True)
        folder.replace(home)
        try:
            own = {path: manifest.files[path] for path in small} | dict(files)
            write_manifest(
                replace(manifest, files=own, variants={name: entry}, default=name), alone
            )
            report = self._report(alone, name)
        finally:
            home.replace(folder)
            shutil.rmtree(alone, ignore_errors=True)
        return report

    def prove_again(self, manifest: Manifest, name: str) -> tuple[Manifest, Report]:
        """Of an engine that was built elsewhere: its state and parity as found here."""
        self.watcher.step(f"prove {name}", kept=False)
        report = self._report(self.space.out, name)
        entry = manifest.variant(name)
        proved = replace(entry, state=state_of(report), parity=report.summary())
        known = replace(manifest, variants={**manifest.variants, name: proved})
        publish(self.space.out, known, {name: report})
        return known, report

    def _report(self, folder: Path, name: str) -> Report:
        """Raises NotProved if a level failed."""
        report = prove(folder, name, EXPORT_LEVELS, plugins=self.plugins, threads=self.threads,
                       tell=self.watcher.tell)  # fmt: skip
        if failures := report.failures():
            raise NotProved(
                f"{name} is not what the model says: {failures[0]}",
                hint=f"{self.space.out} is as it was; 'vlv-export doctor' tells the versions here",
            )
        return report


def _graphs(out: Path, manifest: Manifest, like: VariantEntry) -> VariantEntry:
    """The variant that engines are compiled from. Raises ModelError if OUT has it no longer."""
    name = str(like.compat.get("graphs", ""))
    found = manifest.variants.get(name)
    if found is None or not found.for_engines:
        raise ModelError(
            f"{out} holds no graphs {name!r}, which its engines are compiled from",
            hint="export the model again",
        )
    return found


def _size(manifest: Manifest, wanted: Wanted) -> int:
    """Estimate of a variant's size on disk; heads share weights as graphs, not as engines."""
    of = manifest.variants.get(str(manifest.variant(wanted.like).compat.get("graphs", "")))
    if of is None:
        return 0
    return sum(manifest.file(name).bytes for name in files_used(of)) + CODE_BYTES * len(of.graphs)
