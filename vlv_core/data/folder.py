"""The pictures of a folder, in an order that is the same on every machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from vlv_core.errors import DataError
from vlv_core.pictures import PICTURE_SUFFIXES, open_picture
from vlv_core.protocols import Sample


class FolderOptions(Protocol):
    """What `open_folder` reads of its config."""

    @property
    def path(self) -> str: ...

    @property
    def recursive(self) -> bool: ...


@dataclass
class Scan:
    """What a folder holds; every name is posix and relative to the folder."""

    pictures: list[str] = field(default_factory=list)
    """sorted; told by their suffix, dangling links among them"""
    ignored: int = 0
    """other files, hidden ones among them"""
    unreadable: dict[str, str] = field(default_factory=dict)
    """folders that could not be listed, with the reason"""


def scan(folder: Path, *, recursive: bool = True) -> Scan:
    """List a folder's pictures. Links to folders are followed, but never round in a circle."""
    found = Scan()
    _walk(folder, "", (), found, recursive=recursive)
    found.pictures.sort()
    return found


def _walk(
    folder: Path, prefix: str, above: tuple[tuple[int, int], ...], found: Scan, *, recursive: bool
) -> None:
    try:
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        entries = [] if identity in above else list(os.scandir(folder))
    except OSError as error:
        found.unreadable[prefix or "."] = error.strerror or str(error)
        return
    for entry in entries:
        name = prefix + entry.name
        if _is_folder(entry):
            if recursive and not entry.name.startswith("."):
                _walk(Path(entry), f"{name}/", (*above, identity), found, recursive=True)
        elif is_picture_name(entry.name):
            found.pictures.append(name)
        else:
            found.ignored += 1


def is_picture_name(name: str) -> bool:
    """Whether a file of this name counts as a picture; hidden ones are other programs' notes."""
    return not name.startswith(".") and Path(name).suffix.lower() in PICTURE_SUFFIXES


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads to itself: let it fail by name when it is opened.
        return False


class FolderDataset:
    """Pictures without captions; a sample's key is its path below the folder."""

    def __init__(self, folder: Path, found: Scan) -> None:
        self.folder = folder
        self._found = found

    def __len__(self) -> int:
        return len(self._found.pictures)

    def __getitem__(self, index: int) -> Sample:
        key = self._found.pictures[index]
        return Sample(key=key, load=partial(open_picture, self.folder / key))

    def describe(self) -> Mapping[str, Any]:
        return {
            "folder": str(self.folder),
            "pictures": len(self),
            "other_files": self._found.ignored,
            "unreadable_folders": dict(self._found.unreadable),
        }


def open_folder(config: FolderOptions, root: Path) -> FolderDataset:
    """The dataset of `config.path`, which starts at `root` if it is relative.

    Raises DataError if that is no folder or holds no picture.
    """
    folder = root / config.path
    if not folder.is_dir():
        raise DataError(f"no folder {str(folder)!r}", hint="set data.path in the recipe")
    found = scan(folder, recursive=config.recursive)
    if not found.pictures:
        known = " ".join(sorted(PICTURE_SUFFIXES))
        raise DataError(
            f"no pictures in {str(folder)!r}, and {found.ignored} other files",
            hint=f"pictures are told by their ending: {known}",
        )
    return FolderDataset(folder, found)
