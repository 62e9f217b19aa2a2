"""One picture of a job: how it is named, and how its bytes are had."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from vlv_core.errors import DataError

MAX_BYTES = 2**30
"""largest file that is read as a picture"""


class Input(NamedTuple):
    """One picture to caption, or what stands in its place."""

    key: str
    """unique in a job and the same in every run, see `key_of`"""
    path: str
    """the file that holds it"""
    offset: int = 0
    """of an archive's member, bytes"""
    size: int | None = None
    """of an archive's member, bytes; None takes the whole file"""
    error: str | None = None
    """why it must fail, if that is known before reading"""

    def read(self) -> bytes:
        """The encoded picture. Raises DataError with a one-line reason."""
        if self.error is not None:
            raise DataError(self.error)
        try:
            return self._read(Path(self.path))
        except (OSError, ValueError) as error:
            raise DataError(getattr(error, "strerror", None) or str(error)) from None

    def _read(self, path: Path) -> bytes:
        status = path.stat()
        # Opening a pipe would wait for ever.
        if not stat.S_ISREG(status.st_mode):
            raise DataError("not a file")
        size = status.st_size if self.size is None else self.size
        if size > MAX_BYTES:
            raise DataError(f"{size} bytes are too many for a picture, the limit is {MAX_BYTES}")
        with path.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(size)


def key_of(path: str | Path) -> str:
    """How a path is named in results: posix, relative to the current folder if it lies below.

    Never by its basename alone, and without resolving links, so that two paths are two keys.
    """
    absolute, here = Path(os.path.normpath(Path(path).absolute())), Path.cwd()
    return (absolute.relative_to(here) if absolute.is_relative_to(here) else absolute).as_posix()
