"""Where each sample of tar shards lies: found once by their headers, kept in one file.

A sample is a run of neighbouring members of one key, as WebDataset and img2dataset write them, and
is read again as one piece. The index holds 25 bytes a sample, and for each shard the size and time
of last change by which a stale entry is known.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlv_core.data.filters import number
from vlv_core.data.tars import Damage, Member, members, refuse_compressed
from vlv_core.errors import DataError

logger = getLogger(__name__)

STATES = ("no_picture", "no_caption", "duplicate_key", "name_leaves_archive", "cut_off")
"""why a sample of a shard cannot be used"""

RECORD = np.dtype(
    [
        ("start", "<i8"),
        ("length", "<u4"),
        ("state", "u1"),
        ("width", "<f4"),
        ("height", "<f4"),
        ("watermark", "<f4"),
    ]
)
"""a sample: its bytes in the shard; 0 or 1 + its place in `STATES`; its fields, NaN if absent"""

_LAYOUT = 1
"""number of the file's format"""
_MOST = np.iinfo(np.uint32).max
_READERS = 8
"""shards that are scanned at a time, so that waiting for one disk or server overlaps"""
_TEXT = 1 << 20
"""most bytes of a caption or JSON member that are read"""


@dataclass(frozen=True)
class Rules:
    """What a sample is made of; another choice needs another index."""

    pictures: tuple[str, ...]
    """endings of picture members, the preferred first"""
    caption: str
    """ending of the member that holds the caption; "" for none"""
    field: str
    """of a caption in JSON; "" where the member is the caption"""
    fields: tuple[str, str, str]
    """JSON fields of width, height and watermark"""


class Shard(NamedTuple):
    """What one archive holds."""

    path: Path
    records: NDArray[Any]
    """(n,) of `RECORD`"""
    others: int
    """members that belong to no sample"""
    damage: str | None
    """the reason, where it could not be read to its end"""
    stamp: tuple[int, int]
    """bytes, nanoseconds of the last change"""


class Parts(NamedTuple):
    """The members of a sample that are used."""

    picture: Member | None
    caption: Member | None
    facts: Member | None


def key_and_ending(name: str) -> tuple[str, str]:
    """A member's key and ending: the first dot of the last part divides them.

    >>> key_and_ending("./00000/000000012.seg.png")
    ('00000/000000012', 'seg.png')
    """
    folder, slash, last = name.removeprefix("./").rpartition("/")
    stem, _, ending = last.partition(".")
    return f"{folder}{slash}{stem}", ending.lower()


def parts_of(group: Sequence[Member], rules: Rules) -> Parts:
    """The used members of a sample."""
    by_ending: dict[str, Member] = {}
    for member in group:
        by_ending.setdefault(key_and_ending(member.name)[1], member)
    picture = next((by_ending[each] for each in rules.pictures if each in by_ending), None)
    return Parts(picture, by_ending.get(rules.caption), by_ending.get("json"))


def caption_in(data: bytes, rules: Rules) -> str | None:
    """The caption in a member's contents; None if there is none."""
    try:
        text = json.loads(data).get(rules.field) if rules.field else data.decode("utf-8-sig")
    except (ValueError, AttributeError):
        return None
    return text.strip() or None if isinstance(text, str) else None


def read_shard(path: Path, rules: Rules) -> Shard:
    """Scan one archive. Damage ends it, and is told; what stands before is used.

    Raises DataError for a compressed archive.
    """
    status = path.stat()
    scan = _Scan(rules, status.st_size)
    damage = None if status.st_size else "the file is empty"
    with path.open("rb", buffering=1 << 14) as stream:
        refuse_compressed(stream, str(path))
        try:
            scan.read(stream)
        except Damage as error:
            damage = str(error)
    records = np.array(scan.rows, RECORD)
    if scan.cut:
        damage = damage or "it ends inside a member"
    return Shard(path, records, scan.others, damage, (status.st_size, status.st_mtime_ns))


class _Scan:
    """The samples of one archive as they come by."""

    def __init__(self, rules: Rules, end: int) -> None:
        self.rules = rules
        self.end = end
        self.rows: list[tuple[Any, ...]] = []
        self.others = 0
        self.cut = False
        self._keys: set[str] = set()

    def read(self, stream: BinaryIO) -> None:
        """Raises Damage, after the samples before it are taken in."""
        group: list[Member] = []
        key = ""
        try:
            for member_key, member in self._wanted(members(stream)):
                if group and member_key != key:
                    self._add(group, stream)
                    group = []
                key = member_key
                group.append(member)
        finally:
            if group:
                self._add(group, stream)

    def _wanted(self, found: Iterator[Member]) -> Iterator[tuple[str, Member]]:
        """Members that can belong to a sample, each with its key."""
        for member in found:
            key, ending = key_and_ending(member.name)
            # Hidden files, such as "._a.jpg", are other programs' notes.
            if member.plain and ending and not key.endswith("/") and key:
                yield key, member
            else:
                self.others += 1

    def _add(self, group: list[Member], stream: BinaryIO) -> None:
        start, end = group[0].start, max(member.offset + member.size for member in group)
        key, parts = key_and_ending(group[0].name)[0], parts_of(group, self.rules)
        self.cut = self.cut or end > self.end
        facts = self._facts(parts.facts, stream)
        state = self._state(key, parts, end - start, stream)
        code = 0 if state is None else 1 + STATES.index(state)
        self.rows.append((start, min(end - start, _MOST), code, *facts))
        self._keys.add(key)

    def _state(self, key: str, parts: Parts, length: int, stream: BinaryIO) -> str | None:
        if parts.picture is None:
            return "no_picture"
        if key.startswith("/") or ".." in key.split("/"):
            return "name_leaves_archive"
        if key in self._keys:
            return "duplicate_key"
        if self.cut or length > _MOST:
            return "cut_off"
        if self.rules.caption and caption_in(_read(parts.caption, stream), self.rules) is None:
            return "no_caption"
        return None

    def _facts(self, member: Member | None, stream: BinaryIO) -> list[float]:
        try:
            table = json.loads(_read(member, stream)) if member else {}
        except ValueError:
            table = {}
        get = table.get if isinstance(table, dict) else {}.get
        return [number(get(field)) for field in self.rules.fields]


def _read(member: Member | None, stream: BinaryIO) -> bytes:
    if member is None or member.size > _TEXT:
        return b""
    stream.seek(member.offset)
    return stream.read(member.size)


def index_shards(paths: Sequence[Path], rules: Rules, file: Path | None) -> list[Shard]:
    """All shards, in order, from the index file where it is fresh; the file is then renewed.

    Raises DataError for compressed or unreadable shards. An index that cannot be written is a
    warning: the next run will look again.
    """
    known = _load(file, rules) if file else {}
    shards: dict[Path, Shard] = {}
    for path in paths:
        kept = known.get(str(path))
        if kept is not None and kept.stamp == _stamp(path):
            shards[path] = kept
    stale = [path for path in paths if path not in shards]
    if stale:
        logger.info("indexing %d of %d shards", len(stale), len(paths))
        with ThreadPoolExecutor(_READERS) as pool:
            try:
                for shard in pool.map(partial(read_shard, rules=rules), stale):
                    shards[shard.path] = shard
            except OSError as error:
                raise DataError(f"cannot read {error.filename!r}: {error.strerror}") from error
    found = [shards[path] for path in paths]
    if file and stale:
        _save(file, rules, found)
    return found


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _save(file: Path, rules: Rules, shards: Sequence[Shard]) -> None:
    table = {
        "layout": _LAYOUT,
        "rules": asdict(rules),
        "shards": [
            [str(shard.path), len(shard.records), shard.others, shard.damage, *shard.stamp]
            for shard in shards
        ],
    }
    header = np.frombuffer(json.dumps(table).encode(), np.uint8)
    partial_file = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with partial_file.open("wb") as stream:
            np.savez(stream, header=header, records=np.concatenate([s.records for s in shards]))
            stream.flush()
            os.fsync(stream.fileno())
        partial_file.replace(file)
    except OSError as error:
        logger.warning("the index %s could not be kept: %s", file, error.strerror or error)


def _load(file: Path, rules: Rules) -> Mapping[str, Shard]:
    """What an index file of the same rules holds, by path; nothing if it cannot be used."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            table, records = json.loads(arrays["header"].tobytes()), arrays["records"]
        if table["layout"] != _LAYOUT or table["rules"] != json.loads(json.dumps(asdict(rules))):
            return {}
        if records.dtype != RECORD:
            return {}
        known, start = {}, 0
        for path, count, others, damage, *stamp in table["shards"]:
            rows = records[start : start + count]
            known[path] = Shard(Path(path), rows, others, damage, (stamp[0], stamp[1]))
            start += count
        return known if start == len(records) else {}
    except FileNotFoundError:
        return {}
    except Exception as error:
        # Another program's file, or a damaged one: it is only a cache.
        logger.warning("the index %s is not used: %s", file, error)
        return {}
