"""Sidecars: one text file beside each picture."""

import os
from pathlib import Path

import pytest

from tests.core.fake_captioner import FakeCaptioner, png, put, said_of
from tests.core.job_runs import rows, run
from vlv_core.errors import UsageError, VlvError
from vlv_core.jobs import Counts


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    return tmp_path


def test_sidecars_lie_beside_their_pictures(here: Path) -> None:
    put(here, "a/0.png", "b/0.png")
    run(".", sidecar=True)
    assert Path("a/0.txt").read_text() == f"{said_of(0)}\n"
    assert Path("b/0.txt").read_text() == f"{said_of(1)}\n"


def test_pictures_of_one_stem_do_not_share_a_sidecar(here: Path) -> None:
    put(here, "a.png", "a.jpg", "b.png", "notes.txt")
    run("a.png", "a.jpg", "b.png", "notes.txt", sidecar=True)
    words = {path.name: path.read_bytes() for path in here.glob("*.txt")}
    assert set(words) == {"a.png.txt", "a.jpg.txt", "b.txt", "notes.txt", "notes.txt.txt"}
    assert words["notes.txt"] == png(3) and words["a.jpg.txt"].decode() == f"{said_of(1)}\n"


def test_sidecars_that_exist_are_kept_unless_told(here: Path) -> None:
    put(here, "0.png", "1.png")
    Path("0.txt").write_text("my own words")
    counts = run(".", sidecar=True)
    assert counts == Counts(total=2, ok=2, sidecars_kept=1)
    assert Path("0.txt").read_text() == "my own words"
    assert run(".", sidecar=True, overwrite=True).sidecars_kept == 0
    assert Path("0.txt").read_text() == f"{said_of(0)}\n"


def test_sidecars_alone_tell_what_is_done(here: Path) -> None:
    put(here, "0.png", "1.png")
    Path("0.txt").write_text("my own words")
    assert run(".", out=None, sidecar=True) == Counts(total=2, ok=1, skipped=1)
    assert run(".", out=None, sidecar=True) == Counts(total=2, skipped=2)
    assert run(".", out=None, sidecar=True, overwrite=True).ok == 2
    assert Path("0.txt").read_text() == f"{said_of(0)}\n"


def test_sidecars_of_earlier_rows_are_made_up_for(here: Path) -> None:
    put(here, "0.png", "1.png")
    Path("1.png").write_bytes(b"")
    run(".")
    captioner = FakeCaptioner()
    assert run(".", captioner=captioner, sidecar=True).skipped == 2
    assert Path("0.txt").read_text() == f"{said_of(0)}\n" and not Path("1.txt").exists()
    assert captioner.batches == []


def test_a_sidecar_that_cannot_be_written_fails_its_picture(here: Path) -> None:
    put(here, "0.png", "1.png")
    Path(".0.txt.partial").mkdir()
    assert run("0.png", "1.png", sidecar=True) == Counts(total=2, ok=1, failed=1)
    assert rows()[0]["error"] == "cannot write its .txt: Is a directory"
    Path(".0.txt.partial").rmdir()
    assert run("0.png", "1.png", sidecar=True, retry_failed=True) == Counts(
        total=2, ok=1, skipped=1
    )
    assert Path("0.txt").exists()


def test_a_full_disk_under_a_sidecar_ends_the_job(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(here, "0.png")

    def full(self: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(VlvError, match=r"cannot write '0\.txt': No space left.*; 0 finished rows"):
        run(".", sidecar=True)
    assert rows() == []


def test_archives_have_no_beside(here: Path) -> None:
    import tarfile

    put(here, "0.png")
    with tarfile.open("s.tar", "w") as archive:
        archive.add("0.png")
    with pytest.raises(UsageError, match=r"'s\.tar/0\.png' lies in an archive"):
        run("s.tar", sidecar=True)
