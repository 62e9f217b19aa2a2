"""`python -m vlv_export.tensorrt`: the compiler's own process.

Reads one job as a line of JSON, answers lines of JSON: `{"part", "phase", "step", "of"}` for
progress, and last `{"result": ...}` or `{"error": ...}`. When its input ends before the work does,
whoever asked is gone, and so it stops. Started by `process.build`.
"""

import json
import os
import signal
import sys
import threading
from typing import IO, Any

from vlv_core.config import to_dict
from vlv_core.errors import VlvError
from vlv_export.tensorrt._build import run
from vlv_export.tensorrt._watch import Progress
from vlv_export.tensorrt.job import BuildJob, job_from_json

_PATIENCE_S = 10.0
"""from the wish to stop to an end without the compiler's agreement"""


def main() -> None:
    """Do the job that stands in the first line of the input."""
    answers = _own_output()
    progress = Progress(
        lambda part, phase, step, of: _say(
            answers, {"part": part, "phase": phase, "step": step, "of": of}
        )
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: progress.stop.set())
    job = job_from_json(sys.stdin.readline())
    threading.Thread(target=_stop_with_input, args=(progress, job), daemon=True).start()
    try:
        _say(answers, {"result": to_dict(run(job, progress))})
    except VlvError as error:
        told = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
        _say(answers, {"error": told})
    # The compiler's destructors are not worth waiting for, and have been seen to crash.
    answers.flush()
    os._exit(0)


def _own_output() -> IO[str]:
    """The answers' stream, kept from the compiler, which prints to the standard output."""
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return stream


def _say(stream: IO[str], data: dict[str, Any]) -> None:
    try:
        stream.write(json.dumps(data) + "\n")
        stream.flush()
    except BrokenPipeError:
        os._exit(1)


def _stop_with_input(progress: Progress, job: BuildJob) -> None:
    while sys.stdin.readline():
        pass
    progress.stop.set()
    threading.Event().wait(_PATIENCE_S)
    for part in job.graphs:
        (job.out / f".{part}.engine.partial").unlink(missing_ok=True)
    os._exit(1)


if __name__ == "__main__":
    main()
