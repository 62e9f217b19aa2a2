"""The output file: torn, foreign, locked and full, and never with a key twice."""

import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlv_core.errors import UsageError, VlvError
from vlv_core.generation import GenerationOptions
from vlv_core.jobs import journal as journal_module
from vlv_core.jobs.journal import Journal
from vlv_core.jobs.rows import START, Row, describe, parse

OK = Row(path="a.png", status="ok", caption="a cat", model="m", options="o", tokens=(1, 2))
FAILED = replace(OK, path="b.png", status="failed", caption=None, error="the file is empty")


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def opened(path: Path, **changes: str | bool) -> Journal:
    settings = {"model": "m", "options": "o", **changes}
    return Journal(path, **settings)  # type: ignore[arg-type]


def wrote(path: Path, *rows: Row) -> bytes:
    with opened(path) as journal:
        journal.append(rows)
    return path.read_bytes()


@settings(max_examples=40, deadline=None)
@given(path=st.text(min_size=1), caption=st.text(), logprob=st.floats(allow_nan=False))
def test_a_row_survives_its_line(path: str, caption: str, logprob: float) -> None:
    row = replace(OK, path=path, caption=caption, logprob=logprob)
    line = row.line()
    assert line.count(b"\n") == 1 and line.startswith(START)
    assert parse(line) == replace(row, tokens=[1, 2])  # type: ignore[arg-type]


def test_a_line_is_legible_and_complete() -> None:
    line = replace(OK, path="sub/é 🦊\n.png", seconds=0.25, sha256="ab").line()
    assert "é 🦊\\n".encode() in line
    assert json.loads(line) == {
        "path": "sub/é 🦊\n.png",
        "status": "ok",
        "caption": "a cat",
        "tokens": [1, 2],
        "logprob": None,
        "finish_reason": None,
        "seconds": 0.25,
        "error": None,
        "model": "m",
        "options": "o",
        "sha256": "ab",
    }


def test_names_of_undecodable_bytes_are_escaped() -> None:
    row = replace(OK, path="caf\udce9.png", caption="é")
    assert parse(row.line()).path == "caf\udce9.png" and row.line().isascii()


def test_rows_are_remembered(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/out.jsonl"
    wrote(path, OK, FAILED)
    with opened(path) as journal:
        assert journal.done == {"a.png": True, "b.png": False}
        journal.append([replace(OK, path="c.png")])
    assert [row.path for row in opened(path).rows()] == ["a.png", "b.png", "c.png"]


def test_every_torn_end_is_dropped_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    whole = wrote(path, OK, FAILED)
    first = len(OK.line())
    for cut in {*range(0, len(whole), 7), first - 1, first, first + 1, len(whole) - 1}:
        path.write_bytes(whole[:cut])
        with opened(path) as journal:
            assert list(journal.done) == (["a.png"] if cut >= first else [])
            journal.append([replace(OK, path="c.png")])
        assert (
            path.read_bytes()
            == whole[: first if cut >= first else 0] + replace(OK, path="c.png").line()
        )


@pytest.mark.parametrize(
    "content", [b"my notes", b"my notes\n", b"\x89PNG\r\n", b"{}\n", b'{"path": "a.png"}\n', b"7\n"]
)
def test_a_strangers_file_is_refused_and_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"line 1 of .* is not a row that a cap") as caught:
        opened(path)
    assert "--overwrite" in (caught.value.hint or "") and path.read_bytes() == content


def test_a_bad_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(OK.line() + b"\0\0\0\0\n" + FAILED.line())
    with pytest.raises(UsageError, match="line 2 of"):
        opened(path)


def test_another_model_or_other_options_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    before = wrote(path, OK)
    for change in ({"model": "m2"}, {"options": "beams=3"}):
        with pytest.raises(UsageError, match=r"holds captions of model 'm' \(o\), not of") as error:
            opened(path, **change)
        assert error.value.hint is not None and "--out" in error.value.hint
    assert path.read_bytes() == before
    with opened(path, model="m2", overwrite=True) as journal:
        assert not journal.done
    assert path.read_bytes() == b""


def test_failed_rows_are_dropped_for_the_asked_keys_only(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    other = replace(FAILED, path="c.png")
    wrote(path, OK, FAILED, other)
    with opened(path) as journal:
        journal.drop_failed({"a.png", "b.png"})
        assert journal.done == {"a.png": True, "c.png": False}
        journal.append([replace(OK, path="b.png")])
    assert path.read_bytes() == OK.line() + other.line() + replace(OK, path="b.png").line()
    assert [p.name for p in tmp_path.iterdir()] == ["out.jsonl"]


def test_dropping_fails_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.jsonl"
    before = wrote(path, OK, FAILED)

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with opened(path) as journal, pytest.raises(VlvError, match="No space left"):
        journal.drop_failed({"b.png"})
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    wrote(tmp_path / "real.jsonl", OK, FAILED)
    link = tmp_path / "link.jsonl"
    link.symlink_to("real.jsonl")
    with opened(link) as journal:
        journal.drop_failed({"b.png"})
    assert link.is_symlink() and (tmp_path / "real.jsonl").read_bytes() == OK.line()


def test_a_full_disk_leaves_whole_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.jsonl"
    before = wrote(path, OK)
    real = journal_module._write

    def half(stream: object, data: bytes) -> None:
        real(stream, data[: len(data) // 2])  # type: ignore[arg-type]
        raise OSError(28, "No space left on device")

    with opened(path) as journal:
        monkeypatch.setattr(journal_module, "_write", half)
        with pytest.raises(VlvError, match="No space left on device; 1 finished rows") as caught:
            journal.append([FAILED])
        assert caught.value.exit_code == 1
        assert "free some space, then run the same command again" in (caught.value.hint or "")
    assert path.read_bytes() == before


def test_a_real_full_device() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    reason = "No space left on device; 0 finished rows"
    with opened(Path("/dev/full")) as journal, pytest.raises(VlvError, match=reason):
        journal.append([OK])


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write .*: Is a directory"):
        opened(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot write"):
        opened(tmp_path / "file" / "out.jsonl")


def hold(path: Path, ready: "multiprocessing.synchronize.Event") -> None:
    with opened(path):
        ready.set()
        multiprocessing.Event().wait(60)


def test_two_jobs_cannot_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(path, ready))
    process.start()
    try:
        assert ready.wait(30)
        with pytest.raises(UsageError, match="another job is writing"):
            opened(path)
    finally:
        process.kill()
        process.join()
    # A killed job leaves no lock behind.
    opened(path).close()


def test_options_in_words() -> None:
    assert describe(None) == "the model's own"
    assert describe(GenerationOptions()) == "defaults"
    options = GenerationOptions(beams=3, max_new_tokens=40)
    assert describe(options) == "max_new_tokens=40 beams=3"
