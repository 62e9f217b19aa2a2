"""Jobs that are killed anywhere and started again: every key once, every caption the same."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.core.fake_captioner import FakeCaptioner, put, said_of
from vlv_core.jobs import JobOptions, caption_job, find_inputs
from vlv_core.jobs import journal as journal_module
from vlv_core.jobs.journal import Journal
from vlv_core.jobs.rows import parse

FORK = multiprocessing.get_context("fork")
OUT = Path("out.jsonl")
PICTURES = 40


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty pictures, of which the fifth and the last are bad."""
    monkeypatch.chdir(tmp_path)
    put(tmp_path, *[f"p/{number:02}.png" for number in range(PICTURES)])
    for bad in (5, PICTURES - 1):
        Path(f"p/{bad:02}.png").write_bytes(b"")
    return tmp_path


def job(trouble: Callable[[Any], None] = lambda views: None, **options: Any) -> None:
    inputs = find_inputs(["p"]).inputs
    settings = JobOptions(**{"batch": 3, **options})
    caption_job(FakeCaptioner(trouble=trouble), inputs, out=OUT, job=settings)


def run_and_kill(target: Callable[[], None]) -> int:
    """Run in a forked process, which may kill itself, and return its exit code."""
    process = FORK.Process(target=target)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def whole_lines() -> bytes:
    data = OUT.read_bytes() if OUT.exists() else b""
    return data[: data.rfind(b"\n") + 1]


def check_complete() -> None:
    rows = [parse(line) for line in OUT.read_bytes().splitlines()]
    assert sorted(row.path for row in rows) == [f"p/{n:02}.png" for n in range(PICTURES)]
    for row in rows:
        number = int(Path(row.path).stem)
        bad = number in (5, PICTURES - 1)
        assert row.caption == (None if bad else said_of(number))
        assert row.status == ("failed" if bad else "ok")


def test_killed_at_random_times() -> None:
    random = np.random.Generator(np.random.Philox(7))
    kills = 0
    for attempt in range(60):
        before = whole_lines()
        process = FORK.Process(target=job, args=(lambda views: time.sleep(0.01),))
        process.start()
        # Every second time it gets somewhere first, however slow the machine is.
        while attempt % 2 and process.is_alive() and whole_lines() == before:
            time.sleep(0.005)
        process.join(float(random.uniform(0, 0.1)))
        process.kill()
        process.join()
        assert whole_lines().startswith(before)
        kills += process.exitcode == -signal.SIGKILL
        if process.exitcode == 0:
            break
    assert kills > 1
    check_complete()


def killed_in_a_write(at_byte: int) -> Callable[[], None]:
    """A job that dies once it has written so many bytes, in the middle of whatever that is."""

    def target() -> None:
        written = 0

        def write(stream: Any, data: bytes) -> None:
            nonlocal written
            for byte in data:
                if written == at_byte:
                    os.kill(os.getpid(), signal.SIGKILL)
                stream.write(bytes([byte]))
                written += 1

        journal_module._write = write
        job()

    return target


def test_killed_in_the_middle_of_a_write() -> None:
    random = np.random.Generator(np.random.Philox(8))
    for _ in range(100):
        before = whole_lines()
        code = run_and_kill(killed_in_a_write(int(random.integers(0, 3000))))
        assert whole_lines().startswith(before)
        if code == 0:
            break
    else:
        pytest.fail("the job never came to its end")
    check_complete()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_while_failed_rows_are_superseded(moment: str) -> None:
    job()
    before = sorted(OUT.read_bytes().splitlines())

    def target() -> None:
        real = Path.replace

        def replace(self: Path, to: Path) -> Path:
            if moment == "after":
                real(self, to)
            os.kill(os.getpid(), signal.SIGKILL)
            return to

        Path.replace = replace  # type: ignore[method-assign, assignment]
        job(retry_failed=True)

    assert run_and_kill(target) == -signal.SIGKILL
    failed = [line for line in before if parse(line).status == "failed"]
    kept = before if moment == "before" else [line for line in before if line not in failed]
    assert sorted(OUT.read_bytes().splitlines()) == kept
    job(retry_failed=True)
    check_complete()
    assert not list(Path().glob(".*.partial"))


def test_killed_between_sidecar_and_row() -> None:
    def target() -> None:
        def die(self: Journal, rows: Any) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        Journal.append = die  # type: ignore[method-assign]
        job(sidecar=True)

    assert run_and_kill(target) == -signal.SIGKILL
    assert Path("p/00.txt").exists() and whole_lines() == b""
    job(sidecar=True)
    check_complete()
    assert len(list(Path("p").glob("*.txt"))) == PICTURES - 2
