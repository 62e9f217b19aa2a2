"""The oracle: a small convolutional network that reads a scene back from its picture.

It judges reconstructions. Shape legend: B pictures, 9 cells of the 3 x 3 grid in reading order.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, nn

from vlv_core.errors import ModelError
from vlv_plugins.scenes.facts import Facts, ObjectFacts, facts_of
from vlv_plugins.scenes.vocabulary import CANVAS, CELLS
from vlv_plugins.scenes.world import Background, World

FOLD = 4
"""pixels folded into channels, per edge"""

READ_AT_ONCE = 256


class Values(NamedTuple):
    """What the oracle chooses among: the world's own words, per cell and for the background."""

    cell: dict[str, tuple[str, ...]]
    background: dict[str, tuple[str, ...]]


def values_of(world: World) -> Values:
    """The words of each question that a world's oracle answers."""
    return Values(
        cell={
            "shape": world.shapes,
            "colour": world.colours,
            "size": tuple(world.sizes),
            "fill": world.fills,
        },
        background={
            "kind": world.backgrounds,
            "first": world.background_colours,
            "second": world.background_colours,
        },
    )


class Residual(nn.Module):
    """x + conv(gelu(conv(norm(x)))), (B, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.gelu(self.conv1(self.norm(x))))


class OracleNet(nn.Module):
    """pictures uint8 (B, 64, 64, 3) -> logits by question.

    `present` (B, 9); each attribute (B, 9, values); each background question (B, values).
    """

    def __init__(self, world: World, *, width: int = 64, channels: int = 32) -> None:
        super().__init__()
        self.values = values_of(world)
        self.trunk = nn.Sequential(
            nn.PixelUnshuffle(FOLD),
            nn.Conv2d(3 * FOLD * FOLD, width, 3, padding=1),
            Residual(width),
            nn.GELU(),
            nn.Conv2d(width, width * 3 // 2, 2, stride=2),
            Residual(width * 3 // 2),
            nn.GELU(),
            nn.Conv2d(width * 3 // 2, channels, 1),
            nn.GELU(),
        )
        self.cell_sizes = [1, *map(len, self.values.cell.values())]
        self.background_sizes = [len(words) for words in self.values.background.values()]
        features = channels * (CANVAS // FOLD // 2) ** 2
        self.cells = nn.Linear(features, len(CELLS) * sum(self.cell_sizes))
        self.background = nn.Linear(features, sum(self.background_sizes))

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        pixels = (pictures.to(self.cells.weight.dtype) / 127.5 - 1).permute(0, 3, 1, 2)
        features = self.trunk(pixels).flatten(1)
        cells = self.cells(features).float().unflatten(1, (len(CELLS), -1))
        background = self.background(features).float()
        present, *attributes = cells.split(self.cell_sizes, dim=2)
        return {
            "present": present.squeeze(2),
            **dict(zip(self.values.cell, attributes, strict=True)),
            **dict(
                zip(
                    self.values.background,
                    background.split(self.background_sizes, dim=1),
                    strict=True,
                )
            ),
        }


class Oracle:
    """Reads pictures of one world."""

    def __init__(self, net: OracleNet) -> None:
        self.net = net.eval().requires_grad_(False)

    @classmethod
    def load(cls, world: World, *, path: Path | None = None) -> "Oracle":
        """The oracle of a world, bundled or at `path`.

        Raises ModelError if there is none, or if it was trained on another world or version.
        """
        path = path or bundled(world)
        if not path.is_file():
            raise ModelError(
                f"there is no oracle of world {world.name} at {path.name}",
                hint=f"python -m vlv_plugins.scenes.train_oracle --world {world.name} trains one",
            )
        with safe_open(path, framework="pt") as file:
            trained = file.metadata() or {}
            if trained != stamp(world):
                raise ModelError(
                    f"the oracle {path.name} reads world {trained.get('world')} version "
                    f"{trained.get('version')}, not world {world.name} version {world.version}"
                )
            # Half precision is for the disk alone: CPUs compute faster in full.
            weights = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        net = OracleNet(world)
        net.load_state_dict(weights)
        return cls(net)

    def read(self, pictures: NDArray[np.uint8]) -> list[Facts]:
        """What is seen in pictures uint8 (B, 64, 64, 3); relations are not read."""
        found: list[Facts] = []
        for start in range(0, len(pictures), READ_AT_ONCE):
            found += self._read(pictures[start : start + READ_AT_ONCE])
        return found

    @torch.inference_mode()
    def _read(self, pictures: NDArray[np.uint8]) -> list[Facts]:
        device = self.net.cells.weight.device
        logits = self.net(torch.from_numpy(np.ascontiguousarray(pictures)).to(device))
        # A logit above 0 is a probability above one half.
        present = (logits.pop("present") > 0).cpu().numpy()
        best = {name: each.argmax(-1).cpu().numpy() for name, each in logits.items()}
        cell, background = self.net.values
        return [
            facts_of(
                [
                    ObjectFacts(
                        **{name: words[best[name][row, at]] for name, words in cell.items()},
                        cell=CELLS[at],
                    )
                    for at in np.flatnonzero(present[row])
                ],
                background=_background(
                    *(words[best[name][row]] for name, words in background.items())
                ),
            )
            for row in range(len(pictures))
        ]


def bundled(world: World) -> Path:
    """Where a world's own oracle lies."""
    return Path(__file__).with_name(f"oracle-{world.name.lower()}.safetensors")


def stamp(world: World) -> dict[str, str]:
    """What an oracle's file says of the world that it reads."""
    return {"world": world.name, "version": str(world.version)}


def _background(kind: str, first: str, second: str) -> Background:
    return Background(kind, (first,) if kind == "plain" else (first, second))
