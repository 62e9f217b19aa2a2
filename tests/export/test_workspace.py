"""Steps of an export: done once, kept, and moved into place whole or not at all."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from vlv_core.errors import UsageError
from vlv_export.manifest import MANIFEST
from vlv_export.workspace import Workspace, beside, gigabytes, open_workspace


class Maker:
    """A step that counts how often it is done."""

    def __init__(self, text: str = "x", *, error: Exception | None = None) -> None:
        self.text, self.error, self.times = text, error, 0

    def __call__(self, folder: Path) -> Any:
        self.times += 1
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text(self.text)
        if self.error:
            raise self.error
        return {"pair": (1, 2)}


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "OUT")


def test_a_step_is_done_once_and_its_note_is_kept(space: Workspace) -> None:
    make = Maker()
    first = space.step("capture head", "key", make)
    assert space.step("capture head", "key", make) == first
    assert make.times == 1
    assert (first / "deep" / "file").read_text() == "x"
    assert space.note("capture head") == {"pair": [1, 2]}


def test_another_key_does_the_step_again_and_leaves_nothing_of_the_old(space: Workspace) -> None:
    (space.step("a", "key", Maker()) / "deep" / "stray").write_text("later")
    folder = space.step("a", "other", Maker("new"))
    assert (folder / "deep" / "file").read_text() == "new"
    assert [path.name for path in (folder / "deep").iterdir()] == ["file"]


@pytest.mark.parametrize("damage", ["gone", "longer", "seal"])
def test_a_damaged_step_is_done_again(space: Workspace, damage: str) -> None:
    make = Maker()
    folder = space.step("a", "key", make)
    file = folder / "deep" / "file"
    if damage == "gone":
        file.unlink()
    elif damage == "longer":
        file.write_text("xx")
    else:
        (folder.parent / "a.json").write_text("{")
    space.step("a", "key", make)
    assert make.times == 2
    assert file.read_text() == "x"


def test_a_failed_step_leaves_nothing_and_the_earlier_ones(space: Workspace) -> None:
    earlier = Maker()
    space.step("a", "key", earlier)
    with pytest.raises(ValueError, match="broken"):
        space.step("b", "key", Maker(error=ValueError("broken")))
    assert sorted(path.name for path in (space.folder / "steps").iterdir()) == ["a", "a.json"]
    space.step("a", "key", earlier)
    assert earlier.times == 1


def test_an_interrupted_step_leaves_nothing(space: Workspace) -> None:
    def make(folder: Path) -> None:
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        space.step("a", "key", make)
    assert not list((space.folder / "steps").iterdir())


def test_a_full_disk_is_told(space: Workspace) -> None:
    with pytest.raises(UsageError, match=r"the disk of .*OUT is full") as caught:
        space.step("a", "key", Maker(error=OSError(errno.ENOSPC, "No space left on device")))
    assert "finished steps are kept" in str(caught.value.hint)
    with pytest.raises(PermissionError):
        space.step("a", "key", Maker(error=PermissionError(errno.EACCES, "no")))


def test_large_steps_are_done_in_the_artefact_and_have_one_name(space: Workspace) -> None:
    folder = space.step("build v", "key", Maker(), at="variants/v")
    assert folder == space.artefact / "variants" / "v"
    assert (folder / "deep" / "file").stat().st_nlink == 1
    assert space.done("build v", "key", at="variants/v")


def test_assembling_leaves_what_is_kept_and_copied_and_nothing_else(
    space: Workspace, tmp_path: Path
) -> None:
    space.step("build v", "key", Maker(), at="variants/v")
    space.step("build old", "key", Maker(), at="variants/old")
    (space.artefact / MANIFEST).write_text("of a run that was killed")
    golden = tmp_path / "golden"
    golden.write_text("values")
    space.assemble({"small/golden": golden}, kept=["variants/v/deep/file"])
    there = {p.relative_to(space.artefact).as_posix() for p in space.artefact.rglob("*")}
    assert there == {
        *("variants", "variants/v", "variants/v/deep", "variants/v/deep/file"),
        *("small", "small/golden"),
    }
    assert space.done("build v", "key", at="variants/v")
    assert golden.exists()


def test_an_accepted_artefact_becomes_out_and_nothing_else_is_left(space: Workspace) -> None:
    space.step("build v", "key", Maker(), at="v")
    space.accept()
    assert (space.out / "v" / "deep" / "file").exists()
    assert [path.name for path in space.out.parent.iterdir()] == ["OUT"]


def test_out_is_replaced_only_by_a_whole_one(space: Workspace) -> None:
    artefact(space.out, "old")
    with open_workspace(space.out, force=True) as opened:
        opened.step("build v", "key", Maker(), at="v")
        assert (space.out / MANIFEST).read_text() == "old"
        opened.accept()
    assert not (space.out / MANIFEST).exists()
    assert [path.name for path in space.out.parent.iterdir()] == ["OUT"]


def test_a_rejected_artefact_replaces_the_last_and_leaves_out_alone(space: Workspace) -> None:
    artefact(space.out, "good")
    artefact(beside(space.out, "rejected"), "rejected before")
    space.step("a", "key", Maker())
    space.step("build v", "key", Maker(), at="v")
    rejected = space.reject()
    assert [path.name for path in rejected.iterdir()] == ["v"]
    assert (space.out / MANIFEST).read_text() == "good"
    assert space.done("a", "key")
    assert not space.done("build v", "key", at="v")


def test_what_was_rejected_is_taken_back(tmp_path: Path) -> None:
    out, maker = tmp_path / "OUT", Maker()
    with open_workspace(out) as space:
        space.step("build v", "key", maker, at="v")
        (space.artefact / MANIFEST).write_text("rejected")
        rejected = space.reject()
    with open_workspace(out) as space:
        assert not rejected.exists()
        assert space.step("build v", "key", Maker(), at="v").is_dir()
        assert space.done("build v", "key", at="v") and not space.done("build v", "new", at="v")


@pytest.mark.parametrize("case", ["no artefact", "work goes on"])
def test_what_stands_in_the_way_of_taking_back(tmp_path: Path, case: str) -> None:
    space, rejected = Workspace(tmp_path / "OUT"), tmp_path / "OUT.rejected"
    if case == "work goes on":
        space.artefact.mkdir(parents=True)
        artefact(rejected, "rejected")
    else:
        space.folder.mkdir()
        rejected.mkdir()
    space.take_back()
    assert rejected.is_dir()
    assert space.artefact.exists() == (case == "work goes on")


def test_an_artefact_is_not_replaced_unasked(tmp_path: Path) -> None:
    out = artefact(tmp_path / "OUT", "old")
    with pytest.raises(UsageError, match="OUT exists") as caught, open_workspace(out):
        pass
    assert "--force" in str(caught.value.hint)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_no_artefact_is_never_replaced(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "home"
    if kind == "folder":
        out.mkdir()
        (out / "letters").write_text("dear")
    else:
        out.write_text("dear")
    with pytest.raises(UsageError, match="no artefact"), open_workspace(out, force=True):
        pass
    assert out.exists()


def test_an_empty_folder_is_no_hindrance(tmp_path: Path) -> None:
    out = tmp_path / "OUT"
    out.mkdir()
    with open_workspace(out) as space:
        space.step("build v", "key", Maker(), at="v")
        space.accept()
    assert (out / "v").is_dir()


def test_a_replacement_cut_off_between_its_renames_is_undone(tmp_path: Path) -> None:
    out = tmp_path / "OUT"
    artefact(beside(out, "replaced"), "old")
    with pytest.raises(UsageError, match="exists"), open_workspace(out):
        pass
    assert (out / MANIFEST).read_text() == "old"


def test_two_exports_into_one_folder_are_kept_apart(tmp_path: Path) -> None:
    out = tmp_path / "OUT"
    refused = pytest.raises(UsageError, match="another export is writing")
    with open_workspace(out), refused, open_workspace(out):
        pass
    with open_workspace(out):
        pass


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "OUT"
    with pytest.raises(UsageError, match=r"cannot write .*OUT\.partial"), open_workspace(out):
        pass


def test_too_little_room_is_told_before_any_work(
    space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    space.step("a", "key", Maker("x" * 1000))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 5_000_000))
    # The seal beside the step's thousand bytes is there already, too.
    space.require_space(5_001_000)
    with pytest.raises(UsageError, match=r"needs about 9\.0 GB on the disk of .* has 5\.0 MB free"):
        space.require_space(9_000_000_000)


@pytest.mark.parametrize(
    ("size", "told"), [(999, "1 kB"), (12_300_000, "12.3 MB"), (2_100_000_000, "2.1 GB")]
)
def test_sizes_for_people(size: int, told: str) -> None:
    assert gigabytes(size) == told


PROGRAM = """
import signal, sys, time
from pathlib import Path
from vlv_export.workspace import open_workspace

# A shell that starts tests in the background has them ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

def slow(folder):
    (folder / "half").write_text("half")
    print("in the second step", flush=True)
    time.sleep(60)

with open_workspace(Path(sys.argv[1])) as space:
    space.step("first", "key", lambda folder: (folder / "whole").write_text("whole"))
    space.step("second", "key", slow)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_export_keeps_its_finished_steps_and_frees_its_lock(
    tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "OUT"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in the second step\n"
        os.kill(process.pid, number)
        process.wait(timeout=30)
    with open_workspace(out) as space:
        again, second = Maker(), Maker()
        space.step("first", "key", again)
        folder = space.step("second", "key", second)
        assert (again.times, second.times) == (0, 1)
        assert not (folder / "half").exists()


def artefact(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / MANIFEST).write_text(text)
    return folder
