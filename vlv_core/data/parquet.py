"""Rows of Parquet files as samples. Rows are read by whole row groups, the format's smallest unit.

Needs pyarrow 14.0.1 or newer: older ones could be made to unpickle what a file holds.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from logging import getLogger
from pathlib import Path, PurePosixPath, PureWindowsPath
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from vlv_core.data.filters import REASONS, Facts, Filters, counted, verdicts
from vlv_core.data.grouped import read_grouped
from vlv_core.data.patterns import find_files
from vlv_core.errors import ConfigError, DataError, MissingExtra, nearest
from vlv_core.pictures import open_picture
from vlv_core.protocols import Sample

if TYPE_CHECKING:
    from pyarrow import Table
    from pyarrow.parquet import ParquetFile

logger = getLogger(__name__)

_LISTED = 20
"""damaged files that are named; the others are counted"""
_NO_CAPTION = len(REASONS) + 1
"""code of rows without words, after those of the filters"""
_REASONS = (*REASONS, "no_caption")


class ParquetOptions(Protocol):
    """What `open_parquet` reads of its config."""

    @property
    def files(self) -> str: ...

    @property
    def image(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def folder(self) -> str | None: ...

    @property
    def caption(self) -> str: ...

    @property
    def cache_mb(self) -> int: ...

    @property
    def filters(self) -> Filters: ...


class Group(NamedTuple):
    """A row group: the rows of it that are used."""

    file: int
    number: int
    first: int
    """of its rows, counted in the file"""
    rows: NDArray[np.uint32]
    """(n,) counted in the group"""
    size: int
    """bytes of the columns that a sample needs, uncompressed"""


class ParquetDataset:
    """Samples keyed by file and row. Holds 4 bytes a row, and some row groups.

    Threads may share it.
    """

    def __init__(self, paths: Sequence[Path], config: ParquetOptions, folder: Path) -> None:
        self.config = config
        self.folder = folder
        self._paths = list(paths)
        self._names = _short_names(paths)
        self._dropped = dict.fromkeys(_REASONS, 0)
        self._damage: dict[str, str] = {}
        self._groups = [group for file in range(len(paths)) for group in self._scan(file)]
        self._ends = np.cumsum([len(group.rows) for group in self._groups], dtype=np.int64)
        self._cache: OrderedDict[int, Table] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Sample:
        return self.samples([index])[0]

    def samples(self, indices: Sequence[int]) -> list[Sample]:
        """In the order asked for; each row group is read once."""
        return read_grouped(indices, self._ends, self._of_group)

    def describe(self) -> Mapping[str, Any]:
        """Counts for a dry run: found = pictures + all that was dropped."""
        dropped = {reason: count for reason, count in self._dropped.items() if count}
        return {
            "files": len(self._paths),
            "row_groups": len(self._groups),
            "largest_row_group_mb": round(max((g.size for g in self._groups), default=0) / 1e6, 1),
            "found": len(self) + sum(dropped.values()),
            "pictures": len(self),
            "captions": len(self) if self.config.caption else 0,
            "dropped": dropped,
            "damaged_files": len(self._damage),
            "first_damaged_files": dict(list(self._damage.items())[:_LISTED]),
        }

    def _of_group(self, group: int, indices: NDArray[np.int64]) -> list[Sample]:
        rows = self._groups[group].rows
        return self._of(group, rows[indices - (self._ends[group] - len(rows))].tolist())

    @property
    def _columns(self) -> list[str]:
        """What a sample is made of."""
        return [name for name in (self.config.image, self.config.path, self.config.caption) if name]

    def _scan(self, file: int) -> Iterator[Group]:
        """The row groups of a file, after the filters."""
        try:
            with _open(self._paths[file]) as opened:
                self._check_columns(opened, self._paths[file])
                first = 0
                for number in range(opened.num_row_groups):
                    codes = self._codes(opened, number)
                    for reason, count in counted(codes, _REASONS).items():
                        self._dropped[reason] += count
                    rows = np.flatnonzero(codes == 0).astype(np.uint32)
                    size = _size(opened, number, self._columns)
                    yield Group(file, number, first, rows, size)
                    first += len(codes)
        except OSError as error:
            self._damage[self._names[file]] = _line(error)

    def _check_columns(self, opened: ParquetFile, path: Path) -> None:
        there = opened.schema_arrow.names
        for name in self._columns:
            if name not in there:
                raise DataError(
                    f"'{path}' has no column {name!r}{nearest(name, there)}; "
                    f"it has {', '.join(there)}",
                    hint="name the columns in the recipe: data.image or data.path, data.caption",
                )

    def _codes(self, opened: ParquetFile, number: int) -> NDArray[np.uint8]:
        """0 for each row that is used, or 1 + the place of the reason in `_REASONS`."""
        filters, caption = self.config.filters, self.config.caption
        wanted = [name for name in (*filters.fields, caption) if name in opened.schema_arrow.names]
        # Rows are counted even where no column of theirs is needed.
        table = _read(opened, number, list(dict.fromkeys(wanted)))
        count = opened.metadata.row_group(number).num_rows
        facts = Facts(*(_numbers(table, name, count) for name in filters.fields))
        codes = verdicts(filters, facts)
        if caption:
            codes[(codes == 0) & _wordless(table, caption)] = _NO_CAPTION
        return codes

    def _of(self, group: int, rows: list[int]) -> list[Sample]:
        file, first = self._groups[group].file, self._groups[group].first
        keys = [f"{self._names[file]}:{first + row}" for row in rows]
        try:
            table = self._table(group)
            return [self._sample(table, row, key) for row, key in zip(rows, keys, strict=True)]
        except (OSError, LookupError) as error:
            # A caption, so that stage 2 meets the reason and not a lack of words.
            words = "" if self.config.caption else None
            reason = f"cannot read {str(self._paths[file])!r}: {_line(error)}"
            return [Sample(key, partial(_refuse, reason), words) for key in keys]

    def _sample(self, table: Table, row: int, key: str) -> Sample:
        config = self.config
        caption = table[config.caption][row].as_py().strip() if config.caption else None
        cell = table[config.image or config.path][row].as_py()
        return Sample(key, partial(_picture, cell, self.folder), caption)

    def _table(self, group: int) -> Table:
        """A row group's columns, from memory if it was used of late."""
        with self._lock:
            if group in self._cache:
                self._cache.move_to_end(group)
                return self._cache[group]
        place = self._groups[group]
        with _open(self._paths[place.file]) as opened:
            table = _read(opened, place.number, self._columns)
        with self._lock:
            self._cache[group] = table
            while len(self._cache) > 1 and self._held() > self.config.cache_mb * 1e6:
                self._cache.popitem(last=False)
        return table

    def _held(self) -> int:
        return sum(self._groups[group].size for group in self._cache)


def _open(path: Path) -> ParquetFile:
    """Raises OSError, pyarrow's own errors among them."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise MissingExtra("pyarrow", extra="models") from error
    try:
        return ParquetFile(path, memory_map=True)
    except ArrowException as error:
        raise OSError(_line(error)) from error


def _read(opened: ParquetFile, number: int, columns: list[str]) -> Table:
    """A row group's columns. Raises OSError."""
    from pyarrow import ArrowException

    try:
        return opened.read_row_group(number, columns=columns)
    except ArrowException as error:
        raise OSError(_line(error)) from error


def _size(opened: ParquetFile, number: int, columns: Sequence[str]) -> int:
    group = opened.metadata.row_group(number)
    chunks = [group.column(i) for i in range(group.num_columns)]
    return sum(
        chunk.total_uncompressed_size
        for chunk in chunks
        if chunk.path_in_schema.split(".")[0] in columns
    )


def _numbers(table: Table, name: str, count: int) -> NDArray[np.float32]:
    """A column's numbers, NaN where there is none or it is another kind of column."""
    import pyarrow as pa

    unknown = np.full(count, np.nan, np.float32)
    if name not in table.column_names:
        return unknown
    try:
        column = table[name].cast(pa.float32(), safe=False)
    except pa.ArrowException:
        return unknown
    values: NDArray[np.float32] = column.to_numpy().astype(np.float32)
    return values


def _wordless(table: Table, name: str) -> NDArray[np.bool_]:
    """Where a caption is null or blank. Raises DataError for a column that is not text."""
    import pyarrow as pa
    from pyarrow import compute

    kind = table[name].type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DataError(f"the column {name!r} holds {kind}, not text")
    words = table[name].cast(pa.large_string())
    blank = compute.equal(compute.utf8_trim_whitespace(words), "")
    out: NDArray[np.bool_] = compute.fill_null(blank, True).to_numpy()
    return out


def _picture(cell: Any, folder: Path) -> Image:
    """The picture of a row's bytes, name, or structure of both. Raises DataError."""
    name: Any = cell
    if isinstance(cell, Mapping):
        name = cell.get("bytes") or cell.get("path")
    if isinstance(name, bytes):
        return open_picture(name)
    if not isinstance(name, str) or not name:
        raise DataError("the row has no picture")
    return open_picture(_inside(folder, name))


def _inside(folder: Path, name: str) -> Path:
    """Raises DataError for names that lead out of the folder, by links too."""
    parts = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
    rooted = name.startswith(("/", "\\")) or bool(PureWindowsPath(name).drive)
    path = folder / name
    if rooted or ".." in parts or not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(
            f"{name!r} leads out of '{folder}'", hint="set data.folder to the folder of all"
        )
    return path


def _refuse(reason: str) -> Image:
    raise DataError(reason)


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Names below the folder that all files share: the same on every machine."""
    common = Path(os.path.commonpath([path.absolute().parent for path in paths]))
    return [path.absolute().relative_to(common).as_posix() for path in paths]


def open_parquet(config: ParquetOptions, root: Path) -> ParquetDataset:
    """The dataset of `config.files`; relative names start at `root`.

    Raises ConfigError unless one of image and path is named, and DataError for absent files and
    columns, and if no row can be used.
    """
    if bool(config.image) == bool(config.path):
        raise ConfigError(
            "data.image and data.path: name one of the two columns",
            hint="image for pictures inside the files, path for names of picture files",
        )
    paths = find_files(config.files, root, option="data.files")
    folder = root / (config.folder or ".")
    if not folder.is_dir():
        raise DataError(f"no folder {str(folder)!r}", hint="set data.folder in the recipe")
    dataset = ParquetDataset(paths, config, folder)
    described = dataset.describe()
    if not len(dataset):
        damage = next(iter(described["first_damaged_files"].values()), "none is damaged")
        raise DataError(
            f"no usable row in {len(paths)} files, such as '{paths[0]}'; "
            f"dropped: {described['dropped'] or 'nothing'}; {damage}"
        )
    if described["damaged_files"]:
        name, reason = next(iter(described["first_damaged_files"].items()))
        logger.warning(
            "%d damaged files, the first: %s: %s", described["damaged_files"], name, reason
        )
    return dataset
