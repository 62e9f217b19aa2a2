"""The dataset `scenes`: pictures and captions made on demand, any number of them, no files."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vlv_core.errors import ConfigError, nearest
from vlv_core.protocols import Sample
from vlv_plugins.scenes.captions import caption
from vlv_plugins.scenes.config import ScenesConfig
from vlv_plugins.scenes.pictures import pictures
from vlv_plugins.scenes.splits import scenes, splits
from vlv_plugins.scenes.world import WORLDS


class ScenesDataset:
    """Scene i of a split, rendered; its caption's template is chosen by i."""

    def __init__(self, config: ScenesConfig) -> None:
        if config.world not in WORLDS:
            raise ConfigError(
                f"no world named {config.world!r}{nearest(config.world, WORLDS)}; "
                f"worlds: {', '.join(WORLDS)}"
            )
        self.world = WORLDS[config.world]
        known = splits(self.world)
        if config.split not in known:
            raise ConfigError(
                f"world {config.world} has no split {config.split!r}"
                f"{nearest(config.split, known)}; splits: {', '.join(known)}"
            )
        self.config = config

    def __len__(self) -> int:
        return self.config.count

    def __getitem__(self, index: int) -> Sample:
        return self.samples([index])[0]

    def samples(self, indices: Sequence[int]) -> list[Sample]:
        """The samples at `indices`, drawn together: many times faster than one by one."""
        config = self.config
        numbers = [config.first + index for index in indices]
        drawn = scenes(self.world, config.split, numbers)
        views = pictures(self.world, config.split, numbers)
        prefix = f"{self.world.name}{self.world.version}/{config.split}"
        return [
            Sample(
                key=f"{prefix}/{number}",
                load=partial(np.asarray, view),
                caption=caption(scene, config.register, variant=number % 2**32),
            )
            for number, scene, view in zip(numbers, drawn, views, strict=True)
        ]

    def captions(self, indices: Sequence[int]) -> list[str]:
        """The captions alone, without rendering."""
        numbers = [self.config.first + index for index in indices]
        drawn = scenes(self.world, self.config.split, numbers)
        pairs = zip(drawn, numbers, strict=True)
        return [caption(scene, self.config.register, variant=n % 2**32) for scene, n in pairs]

    def describe(self) -> Mapping[str, Any]:
        """Where the samples come from and how many there are."""
        return {
            "world": self.world.name,
            "split": self.config.split,
            "register": self.config.register,
            "samples": len(self),
        }


def open_scenes(config: ScenesConfig, root: Path) -> ScenesDataset:
    """The dataset; it reads no files, so `root` does not matter."""
    del root
    return ScenesDataset(config)
