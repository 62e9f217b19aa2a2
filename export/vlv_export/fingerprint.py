"""Fingerprints: what a step's result depends on, as short strings. Imports nothing of it."""

import inspect
import json
from collections.abc import Iterable, Sequence
from hashlib import file_digest, sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vlv_core.errors import PluginError
from vlv_export.manifest import FileEntry


def key_of(**facts: Any) -> str:
    """A key that changes with any of the facts, which JSON must know."""
    return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def versions(distributions: Sequence[str]) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def code_of(names: Sequence[str]) -> dict[str, str]:
    """What each module or package does: the version, where it is a distribution's name, else the
    digest of its source. Raises PluginError for a name that is neither."""
    known = versions(names)
    return {name: known.get(name) or _source_digest(name) for name in names}


def code_beside(classes: Iterable[type]) -> str:
    """Digest of the source files in the folders where the classes are defined: a class of a plugin
    is fingerprinted with its neighbours, whether the plugin is installed or a local file."""
    folders = {Path(file).parent for each in classes if (file := _file_of(each))}
    return _digest(sorted(path for folder in folders for path in folder.glob("*.py")))


def files_of(folder: Path) -> dict[str, FileEntry]:
    """sha256 and size of every file of a folder, by its path in there; hidden ones left out."""
    return {
        path.relative_to(folder).as_posix(): file_entry(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def file_entry(path: Path) -> FileEntry:
    """Reads in pieces: the file may be larger than memory."""
    with path.open("rb") as stream:
        digest = file_digest(stream, "sha256").hexdigest()
    return FileEntry(sha256=digest, bytes=path.stat().st_size)


def _source_digest(module: str) -> str:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise PluginError(f"{module!r} is neither a distribution nor a module with a source file")
    origin = Path(spec.origin)
    package = spec.submodule_search_locations is not None
    return _digest(sorted(origin.parent.rglob("*.py")) if package else [origin])


def _digest(files: Sequence[Path]) -> str:
    digest = sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _file_of(cls: type) -> str | None:
    try:
        return inspect.getsourcefile(cls)
    except (OSError, TypeError):
        return None
