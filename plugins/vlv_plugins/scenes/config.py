"""Options of the dataset and of the evaluator. Imports no world: every discovery comes here."""

from dataclasses import dataclass
from typing import Literal

from vlv_core.errors import ConfigError, nearest


@dataclass(frozen=True)
class ScenesConfig:
    """Which scenes, and how they are described."""

    world: str = "S"
    split: str = "train"
    register: Literal["short", "dense", "tags", "json"] = "dense"
    count: int = 1_000_000
    """scenes in an epoch"""
    first: int = 0
    """index of the first scene within the split"""


@dataclass(frozen=True, kw_only=True)
class ScenesEvalConfig:
    """What to measure."""

    world: str = "S"
    splits: tuple[str, ...] = ()
    """none named: all but those for training"""
    captions: int = 2000
    """pictures of iid to caption; of every other split a quarter, unless `full`"""
    reconstructions: int = 200
    """pictures of iid to redraw; 0 for none, which needs no diffusion"""
    guidance: float = 3.0
    steps: int = 25
    """denoising steps"""
    full: bool = False
    """as many captions of every split, and reconstructions at several guidances"""
    seed: int = 0
    """of the noise that drawings start from, and of the bootstrap"""
    batch: int = 64
    """pictures at once"""
    shown: int = 24
    """redrawn pictures to show"""

    def __post_init__(self) -> None:
        from vlv_plugins.scenes.splits import splits
        from vlv_plugins.scenes.world import WORLDS

        if self.world not in WORLDS:
            raise ConfigError(
                f"no world named {self.world!r}{nearest(self.world, WORLDS)}; "
                f"worlds: {', '.join(WORLDS)}"
            )
        known = splits(WORLDS[self.world])
        for name in self.splits:
            if name not in known:
                raise ConfigError(
                    f"world {self.world} has no split {name!r}{nearest(name, known)}; "
                    f"splits: {', '.join(known)}"
                )
        for name, least in (("captions", 1), ("reconstructions", 0), ("steps", 1), ("batch", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}, but must be at least {least}")
