"""What training the oracle optimises: every question about every cell, on softened pictures.

Reconstructions are softer, noisier and a little off in colour: an oracle that knew clean renders
alone would misread what anybody can still see.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vlv_core.randomness import Purpose, normal_rows, uniform_rows
from vlv_core.training.task import Batch
from vlv_plugins.scenes import vocabulary
from vlv_plugins.scenes._oracle import OracleNet, values_of
from vlv_plugins.scenes.arrays import SceneArrays
from vlv_plugins.scenes.pictures import jpeg
from vlv_plugins.scenes.render import render
from vlv_plugins.scenes.splits import scene_arrays, splits
from vlv_plugins.scenes.vocabulary import CANVAS, CELLS
from vlv_plugins.scenes.world import World

SPLITS = ("train-pixels", "held-out", "count", "relation")
"""a judge must know what is kept from those that it judges; worlds without one do without"""
FIRST = 10_000_000
"""index of the first scene taken from a split: nobody is judged on these"""
MAX_NOISE = 12.0
"""strongest noise, grey levels of 255, fine and coarse alike"""
MAX_TINT = 8.0
"""largest shift of a colour channel, grey levels"""
COARSE = 8
"""edge of a patch of coarse noise, pixels"""
GRAIN, PATCHES = CANVAS**2, (CANVAS // COARSE) ** 2
"""draws of fine noise, which is grey, and of coarse noise a channel"""
JPEG_SHARE, JPEG_QUALITIES = 0.25, (10, 60)
"""how many pictures are compressed, and Pillow's qualities from worst to best"""

_VOCABULARY = {
    "shape": vocabulary.SHAPES,
    "colour": vocabulary.COLOURS,
    "size": vocabulary.SIZES,
    "fill": vocabulary.FILLS,
    "kind": vocabulary.BACKGROUND_KINDS,
    "first": vocabulary.BACKGROUND_COLOURS,
    "second": vocabulary.BACKGROUND_COLOURS,
}


class OracleTask:
    """Cross-entropy of presence in every cell, of the attributes where an object is, and of the
    background. Sample i is a scene of its own: none is seen twice."""

    name = "oracle"

    def __init__(self, net: OracleNet, world: World, *, seed: int) -> None:
        self.net, self.world, self.seed = net, world, seed
        self.modules: nn.Module = net

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        return list(self.net.named_parameters())

    def batch(self, step: int, positions: range) -> Batch:
        arrays = mixed(self.world, positions)
        answers = {name: torch.from_numpy(a) for name, a in targets(self.world, arrays).items()}
        pictures = spoil(render(arrays), seed=self.seed, step=step, keys=positions)
        return Batch(tuple(map(str, positions)), {"pictures": pictures, **answers})

    def loss(self, batch: Batch, *, step: int) -> tuple[Tensor, float]:
        del step
        logits, answers = self.net(batch.tensors["pictures"]), batch.tensors
        present = answers["present"]
        total = F.binary_cross_entropy_with_logits(
            logits["present"], present.float(), reduction="sum"
        )
        for name in self.net.values.cell:
            chosen = logits[name][present], answers[name][present]
            total = total + F.cross_entropy(*chosen, reduction="sum")
        for name in self.net.values.background:
            total = total + F.cross_entropy(logits[name], answers[name], reduction="sum")
        return total, float(len(present))


def mixed(world: World, positions: range) -> SceneArrays:
    """The scenes at `positions` of the training order: each split in its turn."""
    turns = [name for name in SPLITS if name in splits(world)]
    wanted = np.array(positions)
    parts, rows = [], []
    for turn, split in enumerate(turns):
        row = np.flatnonzero(wanted % len(turns) == turn)
        if len(row):
            parts.append(scene_arrays(world, split, FIRST + wanted[row]))
            rows.append(row)
    return SceneArrays.joined(parts).take(np.argsort(np.concatenate(rows)))


def targets(world: World, arrays: SceneArrays) -> dict[str, NDArray[np.int64]]:
    """The right answers: `present` bool (B, 9), attributes (B, 9), background questions (B,)."""
    row, slot = np.nonzero(arrays.present)
    cell = arrays.cell[row, slot]
    answers = {"present": np.zeros((len(arrays), len(CELLS)), dtype=bool)}
    answers["present"][row, cell] = True
    values = values_of(world)
    for name, words in values.cell.items():
        answers[name] = np.zeros((len(arrays), len(CELLS)), dtype=np.int64)
        answers[name][row, cell] = _codes(name, words)[getattr(arrays, name)[row, slot]]
    drawn = (arrays.kind, arrays.colours[:, 0], arrays.colours[:, 1])
    for (name, words), codes in zip(values.background.items(), drawn, strict=True):
        answers[name] = _codes(name, words)[codes]
    return answers


def _codes(name: str, words: tuple[str, ...]) -> NDArray[np.int64]:
    """Index in the vocabulary -> index among the world's own words; -1 for those of other worlds"""
    return np.array([words.index(w) if w in words else -1 for w in _VOCABULARY[name]])


def spoil(clean: NDArray[np.uint8], *, seed: int, step: int, keys: range) -> Tensor:
    """Pictures uint8 (B, 64, 64, 3), some compressed, most softened, each by its own draws."""
    # The first four draws of this stream are those that `soften` takes.
    draws = uniform_rows(seed, purpose=Purpose.AUGMENTATION, step=step, keys=keys, shape=(6,))
    chosen, grade = draws[:, 4], draws[:, 5]
    worst, best = JPEG_QUALITIES
    spoilt = clean.copy()
    for row in np.flatnonzero(chosen < JPEG_SHARE):
        quality = round(worst + (best - worst) * float(grade[row]))
        spoilt[row : row + 1] = jpeg(clean[row : row + 1], quality=quality)
    return soften(torch.from_numpy(spoilt), seed=seed, step=step, keys=keys)


def soften(clean: Tensor, *, seed: int, step: int, keys: range) -> Tensor:
    """Pictures uint8 (B, 64, 64, 3), each blurred, tinted and noised by its own draws.

    Half of the pictures are spared each kind of harm.
    """
    strength = uniform_rows(seed, purpose=Purpose.AUGMENTATION, step=step, keys=keys, shape=(4,))
    noise = normal_rows(
        seed, purpose=Purpose.DATA, step=step, keys=keys, shape=(GRAIN + 3 * PATCHES + 3,)
    )
    blur, fine, coarse, tint = (
        torch.from_numpy(strength).mul(2).sub(1).clamp(min=0)[:, :, None, None, None].unbind(1)
    )
    grain, patches, shift = torch.from_numpy(noise).split([GRAIN, 3 * PATCHES, 3], dim=1)
    grain = grain.view(-1, 1, CANVAS, CANVAS)
    patches = F.interpolate(
        patches.reshape(-1, 3, CANVAS // COARSE, CANVAS // COARSE), CANVAS, mode="bilinear"
    )
    # Blur first: a decoder's noise is as sharp as its pixels, not as its drawing.
    x = clean.permute(0, 3, 1, 2).contiguous().float()
    x = torch.lerp(x, _blurred(x), blur)
    x = x + MAX_NOISE * (fine * grain + coarse * patches)
    x = x + MAX_TINT * tint * shift.clamp(-1, 1)[:, :, None, None]
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _blurred(x: Tensor) -> Tensor:
    """Means of 5 x 5 pixels weighted 1 4 6 4 1, about a Gaussian of one pixel."""
    for dim in (2, 3):
        for _ in range(2):
            first, last = x.narrow(dim, 0, 1), x.narrow(dim, CANVAS - 1, 1)
            wide = torch.cat([first, x, last], dim)
            around = wide.narrow(dim, 0, CANVAS) + wide.narrow(dim, 2, CANVAS)
            x = (2 * x + around) / 4
    return x
