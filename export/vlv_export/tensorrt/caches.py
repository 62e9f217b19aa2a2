"""Caches of the compilers and of their runtime, in the user's cache folder.

TensorRT's timing cache spares measuring kernels again; TensorRT-RTX's runtime cache spares
compiling an engine again on first use. Both are worth nothing on another GPU or version, so both
stand in the name, and neither is ever needed: a damaged one is ignored.
"""

import hashlib
import logging
import os
from pathlib import Path

from vlv_core.files import write_atomically

_log = logging.getLogger(__name__)

_MAGIC = b"vlv-cache/1\n"
_DIGEST_BYTES = 32


def cache_root() -> Path:
    """$XDG_CACHE_HOME or ~/.cache, and in it our own folder."""
    home = os.environ.get("XDG_CACHE_HOME")
    # The XDG specification has relative paths ignored.
    base = Path(home) if home and Path(home).is_absolute() else Path.home() / ".cache"
    return base / "vlv"


def cache_file(
    package: str, version: str, *, sm: int, sha256: str, root: Path | None = None
) -> Path:
    """Where the cache of one engine (or of one set of graphs) is; it need not exist.

    package: tensorrt or tensorrt-rtx, and its version
    sm: compute capability of the GPU
    sha256: of what the cache belongs to
    """
    return (root or cache_root()) / f"{package}-{version}-sm{sm}" / f"{sha256}.cache"


def read_cache(path: Path) -> bytes:
    """What was written; empty if there is nothing, or nothing whole, which is said as a warning."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        _log.warning("cache %s cannot be read, and is ignored: %s", path, error.strerror)
        return b""
    start = len(_MAGIC) + _DIGEST_BYTES
    digest, body = data[len(_MAGIC) : start], data[start:]
    if not data.startswith(_MAGIC) or hashlib.sha256(body).digest() != digest:
        _log.warning("cache %s is damaged, and is ignored", path)
        return b""
    return body


def write_cache(path: Path, data: bytes) -> None:
    """Whole or not at all; where it cannot be written, a warning says so and work goes on."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _MAGIC + hashlib.sha256(data).digest() + data)
    except OSError as error:
        _log.warning("cache %s cannot be written: %s", path, error.strerror)
