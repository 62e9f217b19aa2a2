"""A recipe: which components, with what options, trained how. Written in TOML, read to this.

name = "mine"
seed = 0

[view]
size = 64

[encoder]
plugin = "patch-mean"
dim = 128

[stage1]
train = ["bottleneck"]
steps = 1000
batch = 64
lr = 1e-3
data = { dataset = "folder", path = "pictures" }
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vlv_core.config import REST, convert
from vlv_core.errors import ConfigError, nearest
from vlv_core.overrides import Overrides, apply_overrides
from vlv_core.specs import View
from vlv_core.training.options import TrainOptions

TRAINABLE = {
    "stage1": ("encoder", "bottleneck"),
    "stage2": ("encoder", "bottleneck", "connector", "head"),
}
"""what a stage may train: the decoder is frozen, and stage 1 ends before connector and head"""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One component. In TOML a table whose other keys are the component's own options."""

    plugin: str
    """name of a registered component"""
    weights: str = ""
    """model folder or bundled model to take this part's weights from; empty for the component's
    pretrained source, or random weights where it has none"""
    revision: str | None = None
    """pinned revision of the pretrained source; None takes the component's own"""
    options: dict[str, Any] = field(default_factory=dict, metadata=REST)
    """the component's config, unchecked until the plugin is known"""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where a stage's samples come from. In TOML a table whose other keys are the dataset's."""

    dataset: str
    """name of a registered dataset"""
    options: dict[str, Any] = field(default_factory=dict, metadata=REST)
    """the dataset's config; relative paths start at the recipe's folder"""


@dataclass(frozen=True, kw_only=True)
class Stage(TrainOptions):
    """How one stage is trained: the loop's options, and what only a stage knows."""

    train: tuple[str, ...]
    """parts that learn, or parameters of one by prefix ("encoder.blocks.5"); others are frozen"""
    data: Data
    cache: Literal["off", "auto", "require"] = "off"
    """keep frozen encoders' tokens and latents: 'auto' while they fit, 'require' or refuse"""
    cache_gib: float = 8.0
    """largest cache, GiB on disk"""
    noise_samples: int = 1
    """noises and times drawn per picture and step; stage 1 only"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("lr", "cache_gib", "noise_samples"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}, but must be above 0")
        if not self.train:
            raise ConfigError("train is empty, so nothing would learn")
        if self.batch % self.accumulate:
            raise ConfigError(f"batch {self.batch} is no multiple of accumulate {self.accumulate}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole model and its two stages."""

    name: str
    summary: str = ""
    """one line"""
    seed: int
    """of initial weights, order, noise; nothing else decides a random number"""
    licence: str = ""
    """licence of the resulting model, into `model.toml`"""
    domain: str = ""
    """a sentence: what pictures the model will have seen"""
    view: View
    encoder: Part
    bottleneck: Part
    decoder: Part
    connector: Part
    head: Part
    stage1: Stage | None = None
    """None leaves the stage out"""
    stage2: Stage | None = None

    def __post_init__(self) -> None:
        if self.view.size < 1:
            raise ConfigError(f"view.size is {self.view.size}, but must be at least 1 pixel")
        for name, allowed in TRAINABLE.items():
            stage: Stage | None = getattr(self, name)
            for part in stage.train if stage else ():
                root = part.partition(".")[0]
                if root not in allowed:
                    raise ConfigError(
                        f"{name}.train: {part!r} does not learn in this stage"
                        f"{nearest(root, allowed)}; parts that may: {', '.join(allowed)}"
                    )

    def parts(self) -> dict[str, Part]:
        """The five components by role, in the order of the forward pass."""
        roles = ("encoder", "bottleneck", "decoder", "connector", "head")
        return {role: getattr(self, role) for role in roles}


def load_recipe(path: Path, overrides: Overrides = ()) -> Recipe:
    """Read and check a recipe; `overrides` from `parse_overrides` go in before the check.

    Its seed is also each stage's, unless the stage names one. Raises ConfigError with the file's
    name for a file that is missing, is not TOML, or does not make sense.
    """
    data = apply_overrides(_read(path), overrides)
    for name in TRAINABLE:
        if isinstance(data.get(name), dict):
            data[name].setdefault("seed", data.get("seed", 0))
    return convert(Recipe, data, path.name)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except OSError as error:
        known = [item.name for item in _siblings(path)]
        there = f"; recipes there: {', '.join(known)}" if known else ""
        reason = error.strerror or str(error)
        message = f"recipe {str(path)!r} cannot be read: {reason}{nearest(path.name, known)}{there}"
        raise ConfigError(message) from error


def _siblings(path: Path) -> Sequence[Path]:
    return sorted(path.parent.glob("*.toml")) if path.parent.is_dir() else []
