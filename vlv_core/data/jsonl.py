"""Pictures and captions named by the lines of a JSON Lines file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from vlv_core.errors import DataError
from vlv_core.pictures import open_picture
from vlv_core.protocols import Sample

logger = getLogger(__name__)

_LISTED = 20
"""bad rows that are named one by one; the others are counted"""


class JsonlOptions(Protocol):
    """What `open_jsonl` reads of its config."""

    @property
    def path(self) -> str: ...

    @property
    def images(self) -> str | None: ...


class Row(NamedTuple):
    path: str
    caption: str | None


class JsonlDataset:
    """Rows {"path", "caption"}; a sample's key is its line number and path, so it is unique even
    where a picture has several captions. Holds one offset a row, never the rows themselves.

    The output of `vlv caption` is such a file: its rows that are not "ok" are left out.
    """

    def __init__(self, file: Path, images: Path) -> None:
        self.file = file
        self.images = images
        self.bad: list[str] = []
        """the first bad rows, each with its line number and reason"""
        self.bad_rows = 0
        self.captions = 0
        offsets, lines = self._scan()
        self._offsets = np.array(offsets, np.int64)
        self._lines = np.array(lines, np.int64)

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> Sample:
        row = self._row(index)
        load = partial(open_picture, self.images / row.path)
        return Sample(key=f"{self._lines[index]}:{row.path}", load=load, caption=row.caption)

    def describe(self) -> Mapping[str, Any]:
        """Counts for a dry run; looks for every picture on disk."""
        paths = [self._row(index).path for index in range(len(self))]
        return {
            "file": str(self.file),
            "images": str(self.images),
            "pictures": len(self),
            "captions": self.captions,
            "bad_rows": self.bad_rows,
            "first_bad_rows": list(self.bad),
            "missing": sum(not (self.images / path).exists() for path in paths),
            "absolute_paths": sum(Path(path).is_absolute() for path in paths),
            "paths_that_leave_the_folder": sum(map(_leaves, paths)),
        }

    def _scan(self) -> tuple[list[int], list[int]]:
        offsets, lines, offset = [], [], 0
        with self.file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                try:
                    row = _parse(line)
                except ValueError as error:
                    self._reject(f"line {number}: {error}")
                else:
                    if row is not None:
                        offsets.append(offset)
                        lines.append(number)
                        self.captions += row.caption is not None
                offset += len(line)
        return offsets, lines

    def _reject(self, reason: str) -> None:
        self.bad_rows += 1
        if len(self.bad) < _LISTED:
            self.bad.append(reason)

    def _row(self, index: int) -> Row:
        with self.file.open("rb") as stream:
            stream.seek(int(self._offsets[index]))
            try:
                row = _parse(stream.readline())
            except ValueError:
                row = None
        if row is None:
            raise DataError(f"{str(self.file)!r} was changed while it was in use")
        return row


def _parse(line: bytes) -> Row | None:
    """The row of a line, None if it is blank; ValueError with the reason if it is bad."""
    if not line.strip():
        return None
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"not JSON in UTF-8: {error}") from None
    if not isinstance(row, dict):
        raise ValueError("not an object with 'path' and 'caption'")
    path, caption = row.get("path"), row.get("caption")
    if not isinstance(path, str) or not path:
        raise ValueError("'path' is missing or not text")
    if (status := row.get("status", "ok")) != "ok":
        raise ValueError(f"'status' is {status!r}")
    if caption is not None and (not isinstance(caption, str) or not caption.strip()):
        raise ValueError("'caption' is empty or not text")
    return Row(path, caption)


def _leaves(path: str) -> bool:
    return not Path(path).is_absolute() and ".." in Path(os.path.normpath(path)).parts


def open_jsonl(config: JsonlOptions, root: Path) -> JsonlDataset:
    """The dataset of `config.path`; its pictures' paths start at `config.images`, or else at the
    file's own folder. Absolute paths and paths that leave that folder are allowed, and counted.

    Raises DataError if the file is missing or has no usable row.
    """
    file = root / config.path
    if not file.is_file():
        raise DataError(f"no file {str(file)!r}", hint="set data.path in the recipe")
    images = file.parent if config.images is None else root / config.images
    if not images.is_dir():
        raise DataError(f"no folder {str(images)!r}", hint="set data.images in the recipe")
    dataset = JsonlDataset(file, images)
    if not len(dataset):
        first = dataset.bad[0] if dataset.bad else "it is empty"
        raise DataError(
            f"no usable row in {str(file)!r}: {first}",
            hint='a row is {"path": "a.jpg", "caption": "a cat"}',
        )
    if dataset.bad_rows:
        logger.warning("%s: %d bad rows, the first: %s", file, dataset.bad_rows, dataset.bad[0])
    return dataset
