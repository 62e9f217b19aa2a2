"""Writing whole files or none, locking them, and keeping named files inside their folder."""

import os
from pathlib import Path
from shlex import quote
from typing import IO

from vlv_core.errors import ModelError


def write_atomically(path: Path, data: bytes | memoryview) -> None:
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
    """The file `name` of a folder. Raises ModelError if it lies elsewhere, by any trick.

    A link to a file outside is refused too: what lies there may change after it was checked.
    """
    path = folder / name
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
        linked = not inside and path.is_file()
    except (OSError, RuntimeError, ValueError):
        # a loop of links, or a name that no file can have
        inside = linked = False
    if inside:
        return path
    if linked and not Path(name).is_absolute() and ".." not in Path(name).parts:
        raise ModelError(
            f"{path} is a link to a file outside {folder}, and all files must be in the folder",
            hint=f"cp -rL {quote(str(folder))} COPY makes a copy without links: use that",
        )
    raise ModelError(f"{name!r} would lie outside {folder}", hint="do not trust this folder")
