"""What a training says of itself: a line, a JSONL row, and what is left to wait."""

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """One row of metrics.jsonl; means are over the steps since the last row."""

    step: int
    """updates made"""
    loss: float
    lr: float
    grad_norm: float
    """before clipping"""
    pictures_per_s: float
    seconds: float
    """of training, resumed parts together"""


def line(metrics: Metrics, *, name: str, steps: int, seconds_left: float) -> str:
    """The progress line."""
    return (
        f"{name} {metrics.step}/{steps}  loss {metrics.loss:.4f}  "
        f"{metrics.pictures_per_s:.1f} pictures/s  {clock(seconds_left)} left  "
        f"{resident_gib():.2f} GiB"
    )


def clock(seconds: float) -> str:
    """h:mm:ss

    >>> clock(3725)
    '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def resident_gib() -> float:
    """Memory of this process that is in RAM now, GiB; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**30


class MetricsFile:
    """metrics.jsonl. A resumed run drops the rows beyond its checkpoint, so that none is twice.

    Only the main process' is `active`; the others' keep time and write nothing.
    """

    def __init__(self, path: Path, *, resume_at: int = 0, active: bool = True) -> None:
        self.path, self.active = path, active
        rows = [row for row in read(path) if row.step <= resume_at]
        self.seconds_before = rows[-1].seconds if rows else 0.0
        self.started = self.lapped = time.perf_counter()
        if active:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".writing")
            temporary.write_text("".join(_dump(row) for row in rows))
            temporary.replace(path)

    def lap(self) -> tuple[float, float]:
        """Seconds since the last call, and of the whole training."""
        now, before = time.perf_counter(), self.lapped
        self.lapped = now
        return max(now - before, 1e-9), self.seconds_before + now - self.started

    def write(self, row: Metrics) -> None:
        if self.active:
            with self.path.open("a") as file:
                file.write(_dump(row))


def read(path: Path) -> list[Metrics]:
    """The rows of a metrics.jsonl; a last line that was cut is left out. [] if there is no file."""
    rows = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(Metrics(**json.loads(text)))
        except (ValueError, TypeError):
            break
    return rows


def _dump(row: Metrics) -> str:
    return json.dumps(asdict(row)) + "\n"
