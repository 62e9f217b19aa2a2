"""Training pictures that cannot be read: recorded and counted, never replaced by others.

Quarantine is a record, not a filter. A batch with a bad picture is smaller by one and every other
sample keeps its place, so the order stays a pure function of seed and step, in one process or
eight, before and after a resume; and a picture that someone mends is simply read again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlv_core.errors import DataError
from vlv_core.preprocess import to_view
from vlv_core.protocols import Dataset, Sample
from vlv_core.specs import View

_HOPELESS = 100
"""unreadable pictures, without a readable one before them, that end a training"""


class Quarantine:
    """The file quarantine.jsonl: one row {"key", "reason"} a bad picture. Safe among threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reasons = _read(path)
        """by key"""
        self._readable = 0
        self._unreadable = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.reasons)

    def passed(self) -> None:
        """A picture was read."""
        with self._lock:
            self._readable += 1

    def add(self, key: str, reason: str) -> None:
        """Record a picture once, however often it is met.

        Raises DataError when the first `_HOPELESS` pictures of a run were all unreadable.
        """
        with self._lock:
            self._unreadable += 1
            if key not in self.reasons:
                self.reasons[key] = reason
                self._append({"key": key, "reason": reason})
            if self._readable == 0 and self._unreadable >= _HOPELESS:
                raise DataError(
                    f"none of the first {self._unreadable} pictures could be read, "
                    f"the last because: {reason}",
                    hint=f"see {str(self.path)!r}",
                )

    def _append(self, row: dict[str, str]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One short write in append mode: processes that share the file do not mix their lines.
        with self.path.open("ab", buffering=0) as stream:
            stream.write(json.dumps(row).encode() + b"\n")


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    reasons = {}
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
            reasons[row["key"]] = row["reason"]
        except (ValueError, KeyError, TypeError):
            # Torn by a kill; the picture will be met and recorded again.
            continue
    return reasons


class Readable(NamedTuple):
    """The samples of a batch that could be read, B of those asked for."""

    rows: NDArray[np.int64]
    """(B,) their places among those asked for, ascending"""
    keys: tuple[str, ...]
    views: NDArray[np.uint8]
    """(B, S, S, 3)"""
    captions: tuple[str | None, ...]


def read_batch(
    dataset: Dataset, indices: Iterable[int], *, view: View, quarantine: Quarantine
) -> Readable:
    """Read samples by dataset index; those whose picture cannot be read are quarantined.

    Raises DataError if nothing at all can be read, see `Quarantine.add`.
    """
    rows: list[int] = []
    samples: list[Sample] = []
    pictures: list[NDArray[np.uint8]] = []
    for row, sample in enumerate(_samples(dataset, [int(index) for index in indices])):
        picture = _read_view(sample, view, quarantine)
        if picture is not None:
            rows.append(row)
            samples.append(sample)
            pictures.append(picture)
    shape = (len(rows), view.size, view.size, 3)
    return Readable(
        rows=np.array(rows, np.int64),
        keys=tuple(sample.key for sample in samples),
        views=np.stack(pictures) if pictures else np.empty(shape, np.uint8),
        captions=tuple(sample.caption for sample in samples),
    )


def _samples(dataset: Dataset, indices: list[int]) -> Sequence[Sample]:
    """A dataset that can fetch many samples at once, does."""
    many = getattr(dataset, "samples", None)
    return many(indices) if many else [dataset[index] for index in indices]


def _read_view(sample: Sample, view: View, quarantine: Quarantine) -> NDArray[np.uint8] | None:
    try:
        picture = to_view(sample.load(), view)
    except MemoryError:
        raise
    except Exception as error:
        # A dataset from anywhere, a file from anywhere: the reason is kept, the training goes on.
        reason = " ".join(str(error).split()) or type(error).__name__
        quarantine.add(sample.key, reason)
        return None
    quarantine.passed()
    return picture
