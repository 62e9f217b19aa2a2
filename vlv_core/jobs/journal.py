"""The output file of a job, which is also its memory: append-only, one row a picture.

Rows are appended after each batch in one write, so that a kill at any moment loses at most the
batch in flight. Opening the file again drops a torn last line and tells which keys are done. Every
key stands in it once: a row is superseded by rewriting the file without it, atomically, first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import IO

from vlv_core.errors import UsageError, VlvError
from vlv_core.files import lock
from vlv_core.jobs.rows import START, Row, parse

_SYNC_S = 5.0
"""seconds between forcing rows to the disk; a kill loses none of them, a power cut these"""


class Journal:
    """An open output file. Close it, or use it as a context."""

    def __init__(self, path: Path, *, model: str, options: str, overwrite: bool = False) -> None:
        """Create the file, or go on with it; `overwrite` discards what it holds.

        Raises UsageError if it cannot be written, is being written by another job, is not such a
        file, or holds captions of another model or other options.
        """
        # Rewriting replaces the file itself, not a link to it.
        self.path = path.resolve() if path.is_file() else path
        self.model, self.options = model, options
        self.done: dict[str, bool] = {}
        """by key, whether it is ok"""
        self._size = 0
        self._synced = time.monotonic()
        self._stream = _open(self.path)
        try:
            # A pipe or a device can be written to, but remembers nothing.
            if self.path.is_file():
                if overwrite:
                    self._stream.truncate(0)
                self._load()
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Force the rows to the disk and let the file go."""
        with suppress(OSError):
            os.fsync(self._stream.fileno())
        self._stream.close()

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows of new keys, all or none. Raises VlvError if the disk does not take them."""
        data = b"".join(row.line() for row in rows)
        try:
            _write(self._stream, data)
            if time.monotonic() - self._synced > _SYNC_S:
                os.fsync(self._stream.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            with suppress(OSError):
                self._stream.truncate(self._size)
            raise disk_error(error, self.path, kept=len(self.done)) from error
        self._size += len(data)
        self.done |= {row.path: row.status == "ok" for row in rows}

    def rows(self) -> Iterator[Row]:
        """All rows, read anew from the file."""
        if self.path.is_file():
            with self.path.open("rb") as stream:
                yield from map(parse, stream)

    def drop_failed(self, keys: Collection[str]) -> None:
        """Take the failed rows of these keys out of the file, so that new ones can supersede them.

        The file is rewritten beside itself and renamed: a kill leaves the old one or the new one.
        """
        dropped = {key for key, ok in self.done.items() if not ok and key in keys}
        if not dropped:
            return
        partial = self.path.with_name(f".{self.path.name}.partial")
        try:
            with partial.open("wb") as stream:
                stream.writelines(row.line() for row in self.rows() if row.path not in dropped)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(self.path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise disk_error(error, self.path, kept=len(self.done)) from error
        self._stream.close()
        self._stream = _open(self.path)
        self._load()

    def _load(self) -> None:
        """Learn what is done, and drop a torn last line."""
        self.done, self._size = {}, 0
        with self.path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if not line.endswith(b"\n") and (line.startswith(START) or START.startswith(line)):
                    self._stream.truncate(self._size)
                    break
                self._learn(line, number)
                self._size += len(line)

    def _learn(self, line: bytes, number: int) -> None:
        way_out = "name another file with --out, or replace this one with --overwrite"
        try:
            row = parse(line)
        except UsageError as error:
            message = f"line {number} of {str(self.path)!r} is {error.message}"
            raise UsageError(message, hint=way_out) from None
        if (row.model, row.options) != (self.model, self.options):
            raise UsageError(
                f"{str(self.path)!r} holds captions of model {row.model!r} ({row.options}), "
                f"not of {self.model!r} ({self.options})",
                hint=way_out,
            )
        self.done[row.path] = row.status == "ok"


def disk_error(error: OSError, path: Path, *, kept: int) -> VlvError:
    """What to tell the user when the disk refuses a write."""
    again = "run the same command again, and it goes on from there"
    full = error.errno in (ENOSPC, EDQUOT)
    return VlvError(
        f"cannot write {str(path)!r}: {error.strerror or error}; {kept} finished rows are kept",
        hint=f"free some space, then {again}" if full else f"mend the cause, then {again}",
    )


def _open(path: Path) -> IO[bytes]:
    """The file for appending, locked against other jobs."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("ab", buffering=0)
    except OSError as error:
        raise UsageError(f"cannot write {str(path)!r}: {error.strerror or error}") from None
    if not lock(stream):
        stream.close()
        raise UsageError(
            f"another job is writing {str(path)!r}",
            hint="wait for it, or name another file with --out",
        )
    return stream


def _write(stream: IO[bytes], data: bytes) -> None:
    """All of it: a full disk first takes a part without complaint."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]
