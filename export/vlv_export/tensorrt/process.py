"""Building engines: the parent of the compiler's process.

A compiler is a large native library: in a process of its own its crash is an error message, its
memory goes back, and the two compilers never meet.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from vlv_core import errors
from vlv_core.config import convert
from vlv_core.errors import UsageError, VlvError
from vlv_export.tensorrt.job import BuildJob, BuildResult, job_to_json
from vlv_export.tensorrt.libraries import check_targets, library
from vlv_export.tensorrt.memory import check_disk, check_memory

_GRACE_S = 15.0
"""from closing the compiler's input to killing it"""


def build(job: BuildJob, *, tell: Callable[[str], None]) -> BuildResult:
    """Build the engines of a job, or check its graphs (`job.check_only`).

    tell: takes what is being done, a few words

    Raises MissingExtra if the compiler is absent; UsageError for a job that makes no sense;
    NotProved for a graph or engine of another type, or with a copied cache; VlvError for too little
    memory or room, what the compiler refuses, and its crash. What it had begun is then removed.
    """
    _check(job)
    before = {path.name for path in job.out.iterdir()}
    try:
        with _compiler() as (process, said):
            answer = _converse(process, job, tell)
            if answer is None:
                raise _crashed(process.wait(), said)
    except BaseException:
        _clear(job, before)
        raise
    if "error" in answer:
        _clear(job, before)
        raise _as_error(answer["error"])
    return convert(BuildResult, answer["result"], "the compiler's answer")


def _check(job: BuildJob) -> None:
    library(job.library).needed()
    check_targets(job.library, job.sm, job.dtype)
    for part, graph in job.graphs.items():
        if not graph.is_file():
            raise UsageError(f"graph {graph} of part {part!r} is missing")
    if job.check_only:
        return
    if job.library == "rtx" and not job.sm:
        raise UsageError("no compute capability is named", hint="--sm 86,89,120")
    check_memory(job.graphs)
    check_disk(job.graphs, job.out)


@contextmanager
def _compiler() -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """The other process and the file of all that it prints; gone when the context ends."""
    # This process's own import path: a source tree need not be installed.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "vlv_export.tensorrt"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
            text=True, encoding="utf-8", env=environment,
        )  # fmt: skip
        try:
            yield process, said
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Closing its input asks it to stop; killing follows where it does not."""
    assert process.stdin is not None and process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _converse(
    process: subprocess.Popen[str], job: BuildJob, tell: Callable[[str], None]
) -> dict[str, Any] | None:
    """The last answer; None if the process ended without one."""
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(job_to_json(job) + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        return None
    for line in process.stdout:
        try:
            said: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        if "phase" not in said:
            return said
        of = f" {said['step']}/{said['of']}" if said["of"] else ""
        tell(f"{said['part']}: {said['phase'].lower()}{of}")
    return None


def _crashed(code: int, said: IO[str]) -> VlvError:
    said.seek(0)
    lines = [line.strip() for line in said.read()[-4000:].splitlines() if line.strip()]
    last = f"; its last words: {lines[-1]}" if lines else ""
    if code >= 0:
        return VlvError(f"the compiler's process ended with {code} and no answer{last}")
    name = signal.Signals(-code).name
    return VlvError(
        f"the compiler's process was ended by {name}{last}",
        hint="most often the system, for want of memory: free some, or build on a larger machine"
        if -code == signal.SIGKILL
        else "the compiler crashed; another --dtype or --sm may build",
    )


def _as_error(told: dict[str, Any]) -> VlvError:
    """The error that the other process met, as its own class where the family has it."""
    kind = getattr(errors, told["kind"], VlvError)
    if kind is errors.MissingExtra or not issubclass(kind, VlvError):
        kind = VlvError
    error: VlvError = kind(told["message"], hint=told["hint"])
    return error


def _clear(job: BuildJob, before: set[str]) -> None:
    """Remove what a failed build has written; engines of an earlier one stay."""
    for path in job.out.iterdir():
        if path.name in before:
            continue
        if path.suffix in (".engine", ".partial") or path.name == "layers.json":
            path.unlink(missing_ok=True)
