"""Steps of ours and of the plain loop on equal terms: one model, one set of pictures, one stage.

Weights are random, drawn by the recipe's seed: time does not depend on what they are. Every
contestant sees its pictures once before the clock counts.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from vlv_benchmarks.baselines._plain_training import Draws, Loaded, PlainTraining
from vlv_core.compose import compose
from vlv_core.data.quarantine import Quarantine
from vlv_core.model import VLV
from vlv_core.plugins import load_plugins
from vlv_core.protocols import Dataset
from vlv_core.recipe import Recipe, Stage, load_recipe
from vlv_core.training.loop import train
from vlv_core.training.run import TASKS, stage_of
from vlv_core.training.stages import StageTask
from vlv_core.training.start import outline

PADDED, MEAN = 300, 227
"""tokens of the paper's captions, as padded and as they are in the mean"""


class _Enough(Exception):
    """The steps that count are made; the one that a training ends with writes a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Race:
    """What contestants have in common."""

    recipe: Recipe
    number: int
    """stage"""
    batch: int
    epochs: int
    """that are timed, after one that is not"""
    steps: int
    """of an epoch"""

    @property
    def stage(self) -> Stage:
        """The recipe's, with the paper's optimiser, one noise a picture, and no averaged weights.

        In float32, for few CPUs multiply bfloat16 faster."""
        own = stage_of(self.recipe, self.number)
        return replace(
            own,
            batch=self.batch,
            steps=(self.epochs + 1) * self.steps + 1,
            warmup_steps=0,
            accumulate=1,
            noise_samples=1,
            ema=0.0,
            optimizer="adamw",
            dtype="float32",
            cache="off",
            log_every=1,
            checkpoint_every=10**9,
            strip_every=0,
            workers=1,
        )


@dataclass(frozen=True)
class Raced:
    """How a contestant did."""

    ms: list[float]
    """of each step"""
    again: Callable[[], None]
    """forward and backward of the first step, as it was in the last epoch"""


def open_model(recipe: Recipe, *, number: int) -> VLV:
    """The recipe's model with random weights; without a diffusion for stage 2. Reads no weights."""
    plugins = load_plugins()
    choices = outline(recipe, plugins=plugins, root=Path(), fetching=False).choices
    torch.manual_seed(recipe.seed)
    return compose(choices, view=recipe.view, diffusion=number == 1)


def read_recipe(path: Path, *, head: str) -> Recipe:
    """With another head, by the name of its model, if one is named."""
    overrides = [(("head", "model"), head)] if head else []
    return load_recipe(path, overrides)


def plain_steps(model: VLV, dataset: Dataset, race: Race, *, unconditional: bool) -> Raced:
    """The plain loop."""
    padded = padding(model, dataset) if race.number == 2 else PADDED
    loop = PlainTraining(
        model, dataset, race.stage, number=race.number, padded=padded, unconditional=unconditional
    )
    stamps = [time.perf_counter()]
    for loss in loop.run():
        assert np.isfinite(loss)
        stamps.append(time.perf_counter())
        if len(stamps) > (race.epochs + 1) * race.steps:
            break

    def again() -> None:
        loop.loss(loop._load(0, range(race.batch))).backward()

    return Raced(_between(stamps), again)


def our_steps(model: VLV, dataset: Dataset, race: Race, folder: Path, *, cached: bool) -> Raced:
    """`vlv train`'s loop. `cached`: the cache is filled before the clock starts."""
    stage = replace(race.stage, cache="require" if cached else "off")
    task = _task(model, dataset, stage, folder, number=race.number)
    task.open_caches(folder / "cache", config="")
    for step in range(race.steps if cached else 0):
        batch = task.batch(step, range(step * race.batch, (step + 1) * race.batch))
        task._run_passes(batch.tensors, step=step)
    stamps = [time.perf_counter()]

    def stamp(line: str) -> None:
        del line
        stamps.append(time.perf_counter())
        if len(stamps) > (race.epochs + 1) * race.steps:
            raise _Enough

    with suppress(_Enough):
        train(task, stage, out=folder, progress=stamp)

    def again() -> None:
        total, weight = task.loss(task.batch(0, range(race.batch)), step=0)
        (total / weight).backward()

    return Raced(_between(stamps), again)


def loss_difference(model: VLV, dataset: Dataset, race: Race, folder: Path) -> float:
    """How far the two losses are apart on the first pictures, relative; dropout is off.

    The plain loop is given the random numbers that ours draws.
    """
    task = _task(model, dataset, race.stage, folder, number=race.number)
    task.modules.eval()
    batch = task.batch(0, range(race.batch))
    loop = PlainTraining(model, dataset, race.stage, number=race.number)
    loop.modules.eval()
    loaded, draws = _same(loop, batch.tensors)
    with torch.no_grad():
        total, weight = task.loss(batch, step=0)
        plain = loop.loss(loaded, draws)
    ours = float(total) / float(weight)
    return abs(float(plain) - ours) / max(abs(ours), 1e-12)


def padding(model: VLV, dataset: Dataset) -> int:
    """As far beyond the mean caption as the paper's 300 tokens; no caption is cut."""
    captions = [dataset[index].caption or "" for index in range(len(dataset))]
    lengths = model.head.tokenize(captions)[1].sum(dim=1)
    return max(int(lengths.max()), round(float(lengths.float().mean()) * PADDED / MEAN))


def _same(loop: PlainTraining, tensors: dict[str, torch.Tensor]) -> tuple[Loaded, Draws | None]:
    loaded = loop._load(0, range(loop.stage.batch))
    if loop.number == 2:
        return loaded, None
    return loaded, Draws(tensors["posterior"], tensors["noise"][:, 0], tensors["u"][:, 0])


def _task(model: VLV, dataset: Dataset, stage: Stage, folder: Path, *, number: int) -> StageTask:
    quarantine = Quarantine(folder / "quarantine.jsonl")
    return TASKS[number](model, dataset, stage, quarantine=quarantine)


def _between(stamps: list[float]) -> list[float]:
    return [(end - begin) * 1e3 for begin, end in pairwise(stamps)]
