"""Writing whole files or none, locking them, and keeping named files inside their folder."""

import os
from pathlib import Path
from typing import IO

from vlv_core.errors import ModelError


def write_atomically(path: Path, data: bytes) -> None:
    """Write to a temporary name beside `path`, flush to disk, rename."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def lock(stream: IO[bytes]) -> bool:
    """False if another process holds the file; the lock ends with the process, however it ends."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # Some network file systems know no locks; the work is more use than the guard.
        return True
    return True


def contained(folder: Path, name: str) -> Path:
    """The file `name` of a folder. Raises ModelError if it lies elsewhere, by any trick."""
    path = folder / name
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):
        # a loop of links, or a name that no file can have
        inside = False
    if not inside:
        raise ModelError(f"{name!r} would lie outside {folder}", hint="do not trust this folder")
    return path
