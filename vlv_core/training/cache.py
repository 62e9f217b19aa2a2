"""Rows that frozen parts computed, kept on disk: the second epoch reads what the first made.

    FOLDER/layout.json              shape and type of a row
    FOLDER/<random name>.rows       rows, one after another
    FOLDER/<random name>.index      a record a row: content digest, CRC-32 of the row

Each process appends to a shard of its own and reads them all. A row counts once its index record
is whole, and its checksum is verified when it is read: a cut or damaged row is computed anew.
"""

import json
import math
import os
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vlv_core.errors import DataError

DIGEST = 16
RECORD = DIGEST + 4
TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


class Layout(NamedTuple):
    """What a row is."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Place(NamedTuple):
    """Where a row lies."""

    shard: str
    row: int
    checksum: int


@dataclass
class Shard:
    """How far another's or our own shard has been read."""

    records: int = 0
    rows: NDArray[np.uint8] | None = field(default=None, repr=False)


class Store:
    """Rows by content digest. Threads may share one; processes open one each on one folder."""

    def __init__(self, folder: Path, *, layout: Layout, most_rows: int) -> None:
        self.folder, self.layout, self.most_rows = folder, layout, most_rows
        self._own = os.urandom(8).hex()
        self._places: dict[bytes, Place] = {}
        self._shards: dict[str, Shard] = {}
        self._lock = threading.Lock()
        self._claim()
        self._refresh()

    def __len__(self) -> int:
        return len(self._places)

    def get(self, digests: Sequence[bytes]) -> tuple[Tensor, list[int]]:
        """Rows (B, *shape), zeros where unknown, and which those are."""
        rows = torch.zeros(len(digests), math.prod(self.layout.shape), dtype=self.layout.dtype)
        found = rows.view(torch.uint8).numpy()
        with self._lock:
            if any(digest not in self._places for digest in digests):
                self._refresh()
            missing = [at for at, digest in enumerate(digests) if not self._read(digest, found[at])]
        return rows.view(len(digests), *self.layout.shape), missing

    def put(self, digests: Sequence[bytes], rows: Tensor) -> None:
        """Append rows (B, *shape) that are new; nothing beyond the most that were agreed on."""
        plain = rows.detach().to("cpu", self.layout.dtype).contiguous()
        octets = plain.view(len(digests), -1).view(torch.uint8).numpy()
        with self._lock:
            room = max(0, self.most_rows - len(self._places))
            new = {d: at for at, d in enumerate(digests) if d not in self._places}
            self._append([(digest, octets[at]) for digest, at in list(new.items())[:room]])

    def _append(self, rows: Sequence[tuple[bytes, NDArray[np.uint8]]]) -> None:
        if not rows:
            return
        shard = self._shards.setdefault(self._own, Shard())
        records = []
        with (self.folder / f"{self._own}.rows").open("ab") as file:
            for digest, octets in rows:
                file.write(octets.data)
                checksum = zlib.crc32(octets.data)
                records.append(digest + checksum.to_bytes(4, "little"))
                self._places[digest] = Place(self._own, shard.records, checksum)
                shard.records += 1
        with (self.folder / f"{self._own}.index").open("ab") as file:
            file.write(b"".join(records))

    def _read(self, digest: bytes, into: NDArray[np.uint8]) -> bool:
        place = self._places.get(digest)
        if place is None:
            return False
        rows = self._rows(place)
        if rows is not None and zlib.crc32(rows[place.row].data) == place.checksum:
            into[:] = rows[place.row]
            return True
        del self._places[digest]
        return False

    def _rows(self, place: Place) -> NDArray[np.uint8] | None:
        """The shard's memory map, made anew when it has grown beyond the last one."""
        shard = self._shards[place.shard]
        if shard.rows is None or len(shard.rows) <= place.row:
            path = self.folder / f"{place.shard}.rows"
            whole = path.stat().st_size // self.layout.row_bytes if path.exists() else 0
            if whole <= place.row:
                return None
            shape = (whole, self.layout.row_bytes)
            shard.rows = np.memmap(path, np.uint8, mode="r", shape=shape)
        return shard.rows

    def _refresh(self) -> None:
        """Take in what other processes have indexed since."""
        for path in self.folder.glob("*.index"):
            shard = self._shards.setdefault(path.stem, Shard())
            if path.stem == self._own or path.stat().st_size < (shard.records + 1) * RECORD:
                continue
            with path.open("rb") as file:
                file.seek(shard.records * RECORD)
                data = file.read()
            for start in range(0, len(data) - RECORD + 1, RECORD):
                checksum = int.from_bytes(data[start + DIGEST : start + RECORD], "little")
                place = Place(path.stem, shard.records, checksum)
                self._places.setdefault(data[start : start + DIGEST], place)
                shard.records += 1

    def _claim(self) -> None:
        """Write the layout, or check that the folder's is ours."""
        names = {dtype: name for name, dtype in TYPES.items()}
        if self.layout.dtype not in names:
            raise DataError(
                f"cannot cache {self.layout.dtype}; known types: {', '.join(TYPES)}",
            )
        wanted = {"schema": 1, "shape": list(self.layout.shape), "dtype": names[self.layout.dtype]}
        path = self.folder / "layout.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            temporary = path.with_name(f".{self._own}.layout")
            temporary.write_text(json.dumps(wanted))
            temporary.replace(path)
        found = json.loads(path.read_text())
        if found != wanted:
            raise DataError(
                f"the cache '{self.folder}' holds {found}, but {wanted} is due",
                hint="delete the folder",
            )


def content_digests(keys: Sequence[str], views: NDArray[np.uint8]) -> list[bytes]:
    """A digest a sample, of its key and its view (S, S, 3)."""
    digests = []
    for key, view in zip(keys, views, strict=True):
        state = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=DIGEST)
        state.update(np.ascontiguousarray(view).data)
        digests.append(state.digest())
    return digests


def component_digest(modules: Sequence[nn.Module], *, config: str) -> str:
    """A digest of modules: their classes, weights and buffers, and what else decides their output.

    Its cost is that of reading the weights once.
    """
    state = blake2b(config.encode(), digest_size=DIGEST)
    for module in modules:
        state.update(f"{type(module).__module__}.{type(module).__qualname__}".encode())
        for name, tensor in module.state_dict().items():
            state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            plain = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            state.update(plain.numpy().data)
    return state.hexdigest()
