"""Which parts learn in a stage, and which stand still: in eval mode, without gradients."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from vlv_core.errors import ConfigError, nearest
from vlv_core.model import VLV

PASSES: Mapping[int, tuple[str, ...]] = {
    1: ("encoder", "bottleneck", "condition", "diffusion"),
    2: ("encoder", "bottleneck", "condition", "connector", "head"),
}
"""the parts that a stage's loss goes through; gradients pass through frozen ones to those before"""


@dataclass(frozen=True)
class Row:
    """One part's line of the freeze table."""

    part: str
    parameters: int
    trainable: int
    """how many of them this stage trains"""
    used: bool
    """whether this stage's loss goes through it"""

    @property
    def state(self) -> str:
        if not self.used:
            return "not used"
        if not self.trainable:
            return "frozen"
        return "trained" if self.trainable == self.parameters else "trained in part"


def freeze_table(model: VLV, train: Sequence[str], *, stage: int) -> list[Row]:
    """A row for each part that the model has."""
    chosen = {id(parameter) for _, parameter in select(model, train)}
    return [
        Row(
            part=name,
            parameters=sum(p.numel() for p in module.parameters()),
            trainable=sum(p.numel() for p in module.parameters() if id(p) in chosen),
            used=name in PASSES[stage],
        )
        for name, module in model.parts()
    ]


def select(model: VLV, train: Sequence[str]) -> list[tuple[str, nn.Parameter]]:
    """The parameters that `train` names: whole parts, or dotted prefixes within one.

    Of a part that has `learnable()` (see `protocols.Learner`) its name means those alone. Raises
    ConfigError for a prefix that names no parameter.
    """
    named = list(model.named_parameters())
    for entry in train:
        if not any(_under(name, entry) for name, _ in named):
            part, known = entry.partition(".")[0], _prefixes(name for name, _ in named)
            near = sorted(name for name in known if name.partition(".")[0] == part)
            raise ConfigError(
                f"train: {entry!r} names no parameter{nearest(entry, known)}; "
                f"there are: {', '.join(near[:20]) or ', '.join(name for name, _ in model.parts())}"
            )
    learnable = _learnable(model)
    return [
        (name, p)
        for name, p in named
        if any(_under(name, entry) and name in learnable.get(entry, {name}) for entry in train)
    ]


class StageModules(nn.Module):
    """The parts of one stage, frozen by its table for as long as it trains.

    `train()` reaches the trained modules alone, so that nothing re-enables dropout or running
    statistics inside frozen ones.
    """

    def __init__(self, model: VLV, train: Sequence[str], *, stage: int) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(
            {name: module for name, module in model.parts() if name in PASSES[stage]}
        )
        self.trainable = select(model, train)
        model.requires_grad_(False)
        for _, parameter in self.trainable:
            parameter.requires_grad_(True)
        modules = dict(self.parts.named_modules())
        self._trained = [module for name, module in modules.items() if _covered(name, train)]
        self.train()

    def train(self, mode: bool = True) -> "StageModules":
        super().train(False)
        for module in self._trained if mode else ():
            module.train()
        return self


def is_frozen(*modules: Any) -> bool:
    """Whether none of their parameters is trained."""
    return not any(p.requires_grad for module in modules for p in module.parameters())


def _learnable(model: VLV) -> dict[str, set[str]]:
    """Parts that say so -> the full names of the parameters that they mean to learn."""
    return {
        part: {f"{part}.{name}" for name in module.learnable()}  # type: ignore[operator]
        for part, module in model.parts()
        if hasattr(module, "learnable")
    }


def _covered(name: str, train: Sequence[str]) -> bool:
    return any(_under(name, entry) for entry in train)


def _under(name: str, entry: str) -> bool:
    return name == entry or name.startswith(f"{entry}.")


def _prefixes(names: Iterable[str]) -> set[str]:
    pieces = [name.split(".") for name in names]
    return {".".join(piece[:depth]) for piece in pieces for depth in range(1, len(piece) + 1)}
