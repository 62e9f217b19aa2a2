"""`python -m vlv_benchmarks.child`: one turn of one row. A job's JSON comes on stdin; the turn's
goes to what was stdout. Whatever a library prints meanwhile goes to stderr."""

import json
import os
import resource
import signal
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from vlv_benchmarks.job import Job, Measured, Stages
from vlv_benchmarks.turn import Turn
from vlv_core.config import convert, to_dict
from vlv_core.errors import VlvError
from vlv_core.specs import resolve

DIE_WITH_PARENT = 1
"""prctl's PR_SET_PDEATHSIG"""


def main() -> None:
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _die_with_parent()
    turn = perform(convert(Job, json.load(sys.stdin), "job"))
    answer.write(json.dumps(to_dict(turn), allow_nan=False))
    answer.close()


def perform(job: Job) -> Turn:
    """Run the job; what goes wrong becomes the turn's error, in a sentence."""
    started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    plain = Turn(row=job.row.key, turn=job.turn, started=started, error="unknown")
    try:
        if job.plugin_files:
            job.plugins()
        return _turn(plain, resolve(job.run)(job))
    except VlvError as error:
        return replace(plain, error=error.message)
    except Exception as error:
        said = " ".join(str(error).split())[:500]
        return replace(plain, error=f"{type(error).__name__}: {said}")


def peak_memory_mb(pid: int | None = None) -> float:
    """Largest resident set of a process, this one for None, MB of 1e6 bytes."""
    status = Path(f"/proc/{pid or 'self'}/status")
    if status.is_file():
        # getrusage also counts what the parent held when it forked
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _turn(plain: Turn, found: Measured) -> Turn:
    memory = found.peak_memory_mb
    return replace(
        plain,
        error=None,
        stages=_samples(found.stages),
        discarded=_samples(found.discarded),
        elapsed_ms=found.elapsed_ms,
        counts={name: float(count) for name, count in found.counts.items()},
        measures=dict(found.measures),
        work=dict(found.work),
        facts=dict(found.facts),
        peak_memory_mb=peak_memory_mb() if memory is None else memory,
        output_sha256=found.output_sha256,
        quality=found.quality,
    )


def _samples(stages: Stages) -> dict[str, tuple[float, ...]]:
    """To six digits: no clock is truer, and files of samples are kept."""
    return {
        name: tuple(float(f"{each:.6g}") for each in samples)
        for name, samples in stages.items()
        if len(samples)
    }


def _die_with_parent() -> None:
    """A parent that is killed at once cannot stop its children."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)


if __name__ == "__main__":
    main()
