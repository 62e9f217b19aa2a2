"""A job in a fresh process of its own: whatever becomes of that process, a turn comes back."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from vlv_benchmarks.folder import parse_turn
from vlv_benchmarks.job import Job
from vlv_benchmarks.turn import Turn
from vlv_core.config import to_dict
from vlv_core.errors import DataError

POLL_S = 0.2
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Stopped(Exception):
    """The user asked to stop; the turn in flight is lost and will be run again."""


def run_job(
    job: Job,
    *,
    timeout_s: float,
    python: str = "",
    stopped: Callable[[], bool] = lambda: False,
) -> Turn:
    """The turn of a job; its error says how the process ended if it answered nothing that counts.

    Raises Stopped when `stopped` answers true; the process is dead then.
    """
    with tempfile.TemporaryDirectory(prefix="vlv-bench-") as scratch:
        # files, not pipes: a pipe that nobody empties stops its writer
        out, said = Path(scratch) / "answer", Path(scratch) / "stderr"
        place = Path(scratch) / "own"
        place.mkdir()
        job = replace(job, scratch=str(place), spawned=time.monotonic())
        with out.open("wb") as answer, said.open("wb") as errors:
            child = subprocess.Popen(
                [python or sys.executable, "-m", "vlv_benchmarks.child"],
                stdin=subprocess.PIPE,
                stdout=answer,
                stderr=errors,
                env=environment(job.row.threads),
                # Ctrl-C is for the parent, which ends it by its group
                start_new_session=True,
            )
            try:
                ended = _wait(child, json.dumps(to_dict(job)).encode(), timeout_s, stopped)
            finally:
                end(child)
        return _turn(job, out.read_bytes(), ended, _last_line(said))


def environment(threads: int) -> dict[str, str]:
    """As here, with the number of threads that libraries start by themselves."""
    return {**os.environ, **dict.fromkeys(THREADS, str(threads)), "TOKENIZERS_PARALLELISM": "false"}


def end(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a process that leads its own group, and of its group."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _wait(
    child: subprocess.Popen[bytes], data: bytes, timeout_s: float, stopped: Callable[[], bool]
) -> str:
    """How it ended, in a sentence; empty if by itself and well."""
    started = time.monotonic()
    assert child.stdin is not None
    try:
        child.stdin.write(data)
        child.stdin.close()
    except BrokenPipeError:
        pass  # it ended before it read: its exit code says more
    while child.poll() is None:
        if stopped():
            raise Stopped
        if time.monotonic() - started > timeout_s:
            return f"its process was ended after {timeout_s:.0f} s without an answer"
        try:
            child.wait(POLL_S)
        except subprocess.TimeoutExpired:
            continue
    spent = time.monotonic() - started
    if child.returncode < 0:
        return f"its process ended by signal {-child.returncode} after {spent:.0f} s"
    return f"its process ended with code {child.returncode}" if child.returncode else ""


def _turn(job: Job, answer: bytes, ended: str, said: str) -> Turn:
    if ended:
        return _failed(job, f"{ended}: {said}" if said else ended)
    try:
        turn = parse_turn(answer, "answer")
    except DataError as error:
        return _failed(job, f"its process answered nothing that can be read: {error.message}")
    if (turn.row, turn.turn) != (job.row.key, job.turn):
        return _failed(job, f"its process answered for turn {turn.turn} of {turn.row}")
    return turn


def _failed(job: Job, error: str) -> Turn:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Turn(row=job.row.key, turn=job.turn, started=now, error=error)


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip()[:300] if lines else ""
