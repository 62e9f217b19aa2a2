"""`OUT.partial`: where an export works, step by step, until OUT is whole.

    OUT.partial/lock              held while an export runs
    OUT.partial/steps/NAME/       what a finished step wrote
    OUT.partial/steps/NAME.json   its seal: the key it was done under, its files, its note
    OUT.partial/artefact/         what becomes OUT; large steps are done in here from the start,
                                  because gigabytes are not copied, and onnx refuses weights that
                                  have a second name

A step whose key is unchanged is not done again, so that an export that failed, was stopped or
killed goes on where it was.
"""

import errno
import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlv_core.errors import UsageError
from vlv_core.files import lock, write_atomically
from vlv_export.manifest import MANIFEST

WITHIN = ".build"
"""hidden: no part of the artefact"""


@dataclass(frozen=True)
class Workspace:
    """One export's, made by `open_workspace`; or of work on an artefact, by `work_within`."""

    out: Path
    place: Path | None = None
    """None: OUT.partial"""

    @property
    def folder(self) -> Path:
        return self.place or beside(self.out, "partial")

    @property
    def artefact(self) -> Path:
        """Being put together; whole once it holds a manifest."""
        return self.folder / "artefact"

    def done(self, name: str, key: str, *, at: str = "") -> bool:
        """Whether a step was finished under this key, and its files are as it left them."""
        seal = self._seal(name)
        return seal.get("key") == key and seal.get("files") == _sizes(self._home(name, at))

    def note(self, name: str) -> Any:
        """What a finished step's `make` answered, as JSON keeps it."""
        return self._seal(name)["note"]

    def step(self, name: str, key: str, make: Callable[[Path], Any], *, at: str = "") -> Path:
        """The folder that `make(folder)` filled, now or earlier under the same key. It appears
        only when `make` has returned.

        at: where in the artefact the step is done; outside of it if empty
        """
        home = self._home(name, at)
        if self.done(name, key, at=at):
            return home
        seal, making = self._steps / f"{_plain(name)}.json", self._steps / f".{_plain(name)}"
        seal.unlink(missing_ok=True)
        for old in (home, making):
            shutil.rmtree(old, ignore_errors=True)
        making.mkdir(parents=True)
        home.parent.mkdir(parents=True, exist_ok=True)
        try:
            note = make(making)
            files = _sizes(making)
            making.replace(home)
            data = json.dumps({"key": key, "files": files, "note": note})
            write_atomically(seal, data.encode())
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise UsageError(
                f"the disk of {self.out} is full",
                hint="free some space and run the same command: finished steps are kept",
            ) from error
        finally:
            shutil.rmtree(making, ignore_errors=True)
        return home

    def assemble(self, copied: Mapping[str, Path], *, kept: Collection[str]) -> None:
        """Make the artefact hold what steps have left in it under the names `kept`, and copies of
        other files (name in the artefact -> file), and nothing else."""
        for name in set(_sizes(self.artefact)) - set(kept):
            (self.artefact / name).unlink()
        for name, file in copied.items():
            (self.artefact / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, self.artefact / name)
        for folder in sorted(self.artefact.rglob("*"), reverse=True):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    @property
    def _steps(self) -> Path:
        return self.folder / "steps"

    def _home(self, name: str, at: str) -> Path:
        return self.artefact / at if at else self._steps / _plain(name)

    def _seal(self, name: str) -> Mapping[str, Any]:
        """Empty if there is none that can be read."""
        try:
            seal = json.loads((self._steps / f"{_plain(name)}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return seal if isinstance(seal, dict) else {}

    def accept(self) -> None:
        """The artefact is whole: it becomes OUT, and the workspace is removed."""
        before = beside(self.out, "replaced")
        if self.out.exists():
            self.out.replace(before)
        self.artefact.replace(self.out)
        for old in (before, self.folder):
            shutil.rmtree(old, ignore_errors=True)

    def reject(self) -> Path:
        """The artefact is not proved: it becomes OUT.rejected, whose path is returned. OUT, if
        there is one, and the steps that were done outside of the artefact stay; the next export
        of OUT takes back the others."""
        rejected = beside(self.out, "rejected")
        shutil.rmtree(rejected, ignore_errors=True)
        self.artefact.replace(rejected)
        return rejected

    def take_back(self) -> None:
        """Go on with what was rejected, if anything was: only its proof failed, so that steps done
        in it need not be done again. OUT.rejected is then gone."""
        rejected = beside(self.out, "rejected")
        if (rejected / MANIFEST).is_file() and not self.artefact.exists():
            rejected.replace(self.artefact)

    def require_space(self, needed: int) -> None:
        """Raise UsageError unless the disk has room for so many bytes, those of finished steps
        included."""
        there = sum(_sizes(self.folder).values())
        free = shutil.disk_usage(self.folder).free
        if needed - there > free:
            raise UsageError(
                f"the export needs about {gigabytes(needed - there)} on the disk of "
                f"{self.out.absolute().parent}, which has {gigabytes(free)} free",
                hint="export fewer dtypes, or to another disk",
            )


@contextmanager
def open_workspace(out: Path, *, force: bool = False) -> Iterator[Workspace]:
    """The workspace of OUT, held for this process alone.

    Raises UsageError if OUT exists and may not be replaced, or if another export holds it.
    """
    recover(out)
    check_free(out, force=force)
    with _held(Workspace(out)) as workspace:
        yield workspace


@contextmanager
def work_within(out: Path) -> Iterator[Workspace]:
    """The workspace of what is added to OUT, in OUT itself, which may be a volume of its own. What
    is done there is kept if the work is stopped.

    Raises UsageError if OUT cannot be written, or if someone else adds to it.
    """
    with _held(Workspace(out, out / WITHIN)) as workspace:
        yield workspace


@contextmanager
def _held(workspace: Workspace) -> Iterator[Workspace]:
    """Locked, for this process alone."""
    out = workspace.out
    try:
        workspace.folder.mkdir(parents=True, exist_ok=True)
        stream = (workspace.folder / "lock").open("a+b")
    except OSError as error:
        raise UsageError(f"cannot write {workspace.folder}: {error.strerror or error}") from None
    with stream:
        if not lock(stream):
            raise UsageError(f"another export is writing {out}", hint="wait for it to end")
        workspace.take_back()
        yield workspace


def check_free(out: Path, *, force: bool) -> None:
    """Raise UsageError if OUT is there, unless it is an artefact that may be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / MANIFEST).is_file():
        raise UsageError(
            f"{out} exists and is no artefact, so it is not replaced", hint="choose another -o"
        )
    if not force:
        raise UsageError(
            f"{out} exists",
            hint="--force replaces it when the new one is whole; or choose another -o",
        )


def recover(out: Path) -> None:
    """Undo a replacement that was cut off between its two renames."""
    before = beside(out, "replaced")
    if before.exists() and not out.exists():
        before.replace(out)


def beside(out: Path, ending: str) -> Path:
    """OUT.ending"""
    out = out.absolute()
    return out.with_name(f"{out.name}.{ending}")


def gigabytes(size: int) -> str:
    """A size for people."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"


def _plain(name: str) -> str:
    """A step's name as a file's."""
    return name.replace(" ", "-")


def _sizes(folder: Path) -> dict[str, int]:
    """The files of a folder; one that goes away meanwhile is left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        with suppress(OSError):
            if path.is_file():
                found[path.relative_to(folder).as_posix()] = path.stat().st_size
    return found
