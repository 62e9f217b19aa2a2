"""Samples of tar shards, as WebDataset and img2dataset write them, in any order."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from logging import getLogger
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from vlv_core.data.filters import Facts, Filters, counted, verdicts
from vlv_core.data.grouped import read_grouped
from vlv_core.data.patterns import find_files
from vlv_core.data.shard_index import (
    STATES,
    Rules,
    Shard,
    caption_in,
    index_shards,
    key_and_ending,
    parts_of,
)
from vlv_core.data.tars import Damage, members_of
from vlv_core.errors import ConfigError, DataError
from vlv_core.pictures import open_picture
from vlv_core.protocols import Sample

logger = getLogger(__name__)

INDEX_FOLDER = ".vlv-index"
"""where indexes are kept, beside the recipe, if it says nothing else"""
_LISTED = 20
"""damaged shards that are named; the others are counted"""


class WebdatasetOptions(Protocol):
    """What `open_webdataset` reads of its config."""

    @property
    def shards(self) -> str: ...

    @property
    def pictures(self) -> tuple[str, ...]: ...

    @property
    def caption(self) -> str: ...

    @property
    def index(self) -> str: ...

    @property
    def filters(self) -> Filters: ...


class WebDataset:
    """Samples keyed by shard and member. Holds 12 bytes a sample; reads one piece of a file each.

    Nothing is extracted to disk, and nothing stays open, so threads may share it.
    """

    def __init__(self, shards: Sequence[Shard], rules: Rules, filters: Filters) -> None:
        self.rules = rules
        self._paths = [shard.path for shard in shards]
        self._names = _short_names(self._paths)
        kept = [_kept(shard, filters) for shard in shards]
        self._ends = np.cumsum([len(rows) for rows, _ in kept])
        self._starts = np.concatenate([rows["start"] for rows, _ in kept])
        self._lengths = np.concatenate([rows["length"] for rows, _ in kept])
        self._dropped: dict[str, int] = {}
        for _, dropped in kept:
            for reason, count in dropped.items():
                self._dropped[reason] = self._dropped.get(reason, 0) + count
        self._others = sum(shard.others for shard in shards)
        self._damage = {
            name: shard.damage
            for name, shard in zip(self._names, shards, strict=True)
            if shard.damage
        }

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Sample:
        return self.samples([index])[0]

    def samples(self, indices: Sequence[int]) -> list[Sample]:
        """In the order asked for; each shard is opened once and read forwards."""
        return read_grouped(indices, self._ends, self._of)

    def describe(self) -> Mapping[str, Any]:
        """Counts for a dry run: found = pictures + all that was dropped."""
        damaged = dict(list(self._damage.items())[:_LISTED])
        return {
            "shards": len(self._paths),
            "found": len(self) + sum(self._dropped.values()),
            "pictures": len(self),
            "captions": len(self) if self.rules.caption else 0,
            "dropped": dict(self._dropped),
            "bytes": int(self._lengths.sum(dtype=np.int64)),
            "other_members": self._others,
            "damaged_shards": len(self._damage),
            "first_damaged_shards": damaged,
        }

    def _of(self, shard: int, indices: NDArray[np.int64]) -> list[Sample]:
        """Samples of one shard, at ascending places."""
        samples = []
        try:
            with self._paths[shard].open("rb") as stream:
                for index in indices:
                    stream.seek(int(self._starts[index]))
                    piece = stream.read(int(self._lengths[index]))
                    samples.append(self._sample(shard, int(index), piece))
        except OSError as error:
            reason = f"cannot read {str(self._paths[shard])!r}: {error.strerror or error}"
            unread = indices[len(samples) :].tolist()
            samples += [self._lost(shard, index, reason) for index in unread]
        return samples

    def _sample(self, shard: int, index: int, piece: bytes) -> Sample:
        try:
            group = list(members_of(piece))
        except Damage as error:
            return self._lost(shard, index, f"the shard is not as it was indexed: {error}")
        picture, caption, _ = parts_of(group, self.rules)
        cut = len(piece) < self._lengths[index]
        if picture is None or cut:
            return self._lost(shard, index, "the shard is not as it was indexed")
        words = None
        if caption is not None and self.rules.caption:
            words = caption_in(piece[caption.offset :][: caption.size], self.rules)
        key = f"{self._names[shard]}/{key_and_ending(picture.name)[0]}"
        content = piece[picture.offset :][: picture.size]
        return Sample(key=key, load=partial(open_picture, content), caption=words)

    def _lost(self, shard: int, index: int, reason: str) -> Sample:
        """A sample that ends in quarantine, for its shard was there when the training began."""
        # A caption, so that stage 2 meets the reason and not a lack of words.
        words = "" if self.rules.caption else None
        key = f"{self._names[shard]}/@{self._starts[index]}"
        return Sample(key=key, load=partial(_refuse, reason), caption=words)


def _refuse(reason: str) -> Image:
    raise DataError(reason, hint="start again: shards that changed are indexed anew")


def _kept(shard: Shard, filters: Filters) -> tuple[NDArray[Any], dict[str, int]]:
    """A shard's records that are used, and how many are not by reason."""
    records = shard.records
    sound = records[records["state"] == 0]
    facts = Facts(sound["width"], sound["height"], sound["watermark"])
    codes = verdicts(filters, facts)
    dropped = {**counted(records["state"], STATES), **counted(codes)}
    return sound[["start", "length"]][codes == 0], dropped


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Names below the folder that all shards share, without ".tar": the same on every machine."""
    folders = [path.absolute().parent for path in paths]
    common = Path(os.path.commonpath(folders))
    return [path.absolute().relative_to(common).as_posix().removesuffix(".tar") for path in paths]


def open_webdataset(config: WebdatasetOptions, root: Path) -> WebDataset:
    """The dataset of `config.shards`; relative names start at `root`.

    Raises DataError for absent or compressed shards, and if no sample can be used.
    """
    paths = find_files(config.shards, root, option="data.shards")
    rules = _rules(config)
    default = f"{INDEX_FOLDER}/{sha256(repr((config.shards, rules)).encode()).hexdigest()[:16]}.npz"
    shards = index_shards(paths, rules, root / (config.index or default))
    dataset = WebDataset(shards, rules, config.filters)
    described = dataset.describe()
    if not len(dataset):
        raise DataError(
            f"no usable sample in {len(paths)} shards, such as '{paths[0]}'; "
            f"dropped: {described['dropped'] or 'nothing'}",
            hint=f"pictures are told by their ending: {' '.join(rules.pictures)}",
        )
    if described["damaged_shards"]:
        name, reason = next(iter(described["first_damaged_shards"].items()))
        logger.warning(
            "%d damaged shards, the first: %s: %s", described["damaged_shards"], name, reason
        )
    return dataset


def _rules(config: WebdatasetOptions) -> Rules:
    caption, colon, field = config.caption.partition(":")
    if colon and not (caption == "json" and field):
        raise ConfigError(
            f"data.caption is {config.caption!r}; an ending such as 'txt', or 'json:FIELD'"
        )
    if caption == "json" and not field:
        raise ConfigError(
            "data.caption is 'json', without a field", hint="write 'json:caption', say"
        )
    pictures = tuple(ending.lower().lstrip(".") for ending in config.pictures)
    if not pictures:
        raise ConfigError("data.pictures names no ending", hint='such as ["jpg", "png"]')
    return Rules(pictures, caption.lstrip("."), field, config.filters.fields)
