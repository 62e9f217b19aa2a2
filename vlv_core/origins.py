"""Where a part's first weights come from: pretrained files, a bundled model, a model folder.

Parts that training left alone are then not copied into every model: `model.toml` names the source,
its commit and its digest. Local folders are no such source, for another machine lacks them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from typing import Any

from vlv_core.errors import ConfigError, ModelError
from vlv_core.hub import PACKAGE, fetch
from vlv_core.specs import Source
from vlv_core.weights import sha256_of

WEIGHTS = (".safetensors", ".gguf")
"""endings of files that hold weights"""
MODEL = "model:"
"""prefix of a source that is a bundled model of vlv"""


@dataclass(frozen=True)
class Origin:
    """What filled a part before it was trained."""

    source: Source
    """revision pinned to a commit"""
    sha256: str
    """of the files that were read"""
    filled: frozenset[str]
    """names in the part's state dict"""
    portable: bool
    """whether another machine finds the source too"""


def load_pretrained(module: Any, part: str, source: Source, *, root: Path) -> Origin:
    """Fetch a source and fill a part from it.

    Raises ConfigError if the part cannot read pretrained weights, and what fetching and reading
    raise.
    """
    if not hasattr(module, "load_pretrained"):
        raise ConfigError(
            f"{part}: {type(module).__name__} names pretrained weights in {source.location!r}, "
            "but has no load_pretrained",
            hint="its plugin must offer it: see protocols.Pretrained",
        )
    fetched = fetch(source, root=root)
    filled = frozenset(module.load_pretrained(fetched.folder))
    pinned = replace(source, revision=fetched.revision)
    portable = fetched.revision is not None or source.location.startswith(PACKAGE)
    return Origin(pinned, digest_of(fetched.folder, source.files), filled, portable)


def check_source(source: Source, digest: str, folder: Path, *, part: str) -> None:
    """Raises ModelError if the files of a fetched source are others than when it was saved."""
    if digest_of(folder, source.files) != digest:
        there = ", ".join(_matching(folder, source.files))
        raise ModelError(
            f"{part}: the files of {source.location!r} are not those that this model was made from;"
            f" of {', '.join(source.files) or 'all files'} '{folder}' has {there or 'none'}",
            hint="fetch them while online, or install the version, that model.toml names",
        )


def digest_of(folder: Path, patterns: Iterable[str]) -> str:
    """sha256 over names and contents of the weights that match, links followed.

    Other files, such as tokenizers, are not in it: the model folder has its own copies, and one
    that a cache fetched later must not matter. A source of no known format counts whole.
    """
    whole = sha256()
    names = _matching(folder, patterns)
    for name in [name for name in names if name.endswith(WEIGHTS)] or names:
        whole.update(f"{name}\0{sha256_of(folder / name)}\n".encode())
    return whole.hexdigest()


def _matching(folder: Path, patterns: Iterable[str]) -> list[str]:
    """Names of the files that match, in the order of their paths."""
    wanted = tuple(patterns) or ("*",)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in paths]
    return [name for name in names if any(fnmatch(name, pattern) for pattern in wanted)]
