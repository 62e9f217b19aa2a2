"""What `vlv train --dry-run` shows: parts, memory, data, steps, hours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from vlv_core.errors import DataError
from vlv_core.model_folder import ROLE_OF
from vlv_core.training.freeze import freeze_table
from vlv_core.training.plan import CAPTION_TOKENS, Plan, inference_bytes, plan
from vlv_core.training.start import open_dataset

if TYPE_CHECKING:
    from rich.console import Console

    from vlv_core.model import VLV
    from vlv_core.protocols import Dataset
    from vlv_core.recipe import Recipe, Stage
    from vlv_core.registry import Plugins


@dataclass(frozen=True)
class DryRun:
    """What there is to show. The model stands on the meta device."""

    recipe: Recipe
    model: VLV
    plugins: Plugins
    root: Path
    """the recipe's folder"""
    folder: Path
    """the run folder that would be written"""
    numbers: list[int]
    """the stages"""
    processes: int
    rate_tflops: float

    def stage(self, number: int) -> Stage:
        found: Stage = getattr(self.recipe, f"stage{number}")
        return found


def show(dry: DryRun, *, console: Console) -> None:
    """Print the dry run. Opens the datasets, if they are here; reads no weights, trains nothing."""
    console.print(Text(f"recipe {dry.recipe.name}, seed {dry.recipe.seed} -> {dry.folder}\n"))
    console.print(_model_table(dry))
    for number in dry.numbers:
        console.print(Text(f"\nstage {number}"))
        _show_stage(dry, number, console=console)


def _show_stage(dry: DryRun, number: int, *, console: Console) -> None:
    stage = dry.stage(number)
    dataset, absent = _open(dry, number)
    length, source = _caption_tokens(dry.model, dataset if number == 2 else None)
    cost = plan(dry.model, stage, number, processes=dry.processes, caption_tokens=length)
    lines = [_data(dry, number, dataset, absent), *_steps(dry, number, dataset)]
    lines += [f"captions: {length} tokens, {source}"] if number == 2 else []
    lines += [_memory(cost), _hours(cost, dry.rate_tflops)]
    for line in lines:
        console.print(Text(f"  {line}"), soft_wrap=True)
    console.print(_stage_table(dry, number, cost))


def _model_table(dry: DryRun) -> Table:
    """A row a part: who makes it, how large it is, what captioning and redrawing need for it."""
    table = Table("PART", "PLUGIN", "PARAMETERS", "INFERENCE, bfloat16", box=None)
    inference = inference_bytes(dry.model)
    for part, module in dry.model.parts():
        plugin = dry.recipe.parts()[ROLE_OF.get(part, part)].plugin
        numbers = sum(p.numel() for p in module.parameters())
        table.add_row(*map(Text, (part, plugin, f"{numbers:,}", in_words(inference[part]))))
    numbers, size = sum(p.numel() for p in dry.model.parameters()), sum(inference.values())
    captions = size - inference.get("diffusion", 0)
    said = f"{in_words(size)}; captions alone {in_words(captions)}"
    table.add_row(*map(Text, ("all", "", f"{numbers:,}", said)), style="bold")
    return table


def _stage_table(dry: DryRun, number: int, cost: Plan) -> Table:
    """A row a part: whether it learns, and what its weights, gradients and moments take."""
    table = Table("  PART", "STATE", "TRAINED", "MEMORY", box=None)
    rows = freeze_table(dry.model, dry.stage(number).train, stage=number)
    for row in rows:
        memory = cost.parts.get(row.part)
        held = in_words(memory.total) if memory else "-"
        table.add_row(*map(Text, (f"  {row.part}", row.state, f"{row.trainable:,}", held)))
    trained = sum(row.trainable for row in rows)
    held = in_words(sum(memory.total for memory in cost.parts.values()))
    table.add_row(*map(Text, ("  all", "", f"{trained:,}", held)), style="bold")
    return table


def _open(dry: DryRun, number: int) -> tuple[Dataset | None, str]:
    """The stage's dataset, or why it cannot be opened here."""
    try:
        return open_dataset(dry.stage(number).data, plugins=dry.plugins, root=dry.root), ""
    except DataError as error:
        return None, error.message


def _data(dry: DryRun, number: int, dataset: Dataset | None, absent: str) -> str:
    name = dry.stage(number).data.dataset
    if dataset is None:
        return f"data: {name}, not usable here: {absent}"
    described = ", ".join(f"{key} {value}" for key, value in dataset.describe().items())
    return f"data: {name}, {len(dataset):,} samples ({described})"


def _steps(dry: DryRun, number: int, dataset: Dataset | None) -> list[str]:
    stage = dry.stage(number)
    samples = stage.steps * stage.batch
    epochs = "" if dataset is None else f", {samples / max(1, len(dataset)):.2f} epochs"
    return [
        f"steps: {stage.steps:,} x {stage.batch} = {samples:,} samples{epochs}, "
        f"on {dry.processes} processes",
        f"{stage.optimizer}, lr {stage.lr:g} {stage.schedule}, warm-up {stage.warmup_steps}, "
        f"{stage.dtype}, cache {stage.cache}",
    ]


def _memory(plan: Plan) -> str:
    held = plan.parts.values()
    return (
        f"memory a process: about {in_words(plan.memory)} = "
        f"weights {in_words(sum(part.weights for part in held))} + "
        f"gradients {in_words(sum(part.gradients for part in held))} + "
        f"optimiser {in_words(sum(part.optimizer for part in held))} + "
        f"activations {in_words(plan.activations)}"
    )


def _hours(plan: Plan, rate: float) -> str:
    return (
        f"compute: {plan.sample_flops / 1e12:.3g} TFLOP a sample, forward and backward; about "
        f"{plan.gpu_hours(rate * 1e12):,.3g} GPU hours at {rate:g} TFLOP/s sustained"
    )


def _caption_tokens(model: VLV, dataset: Dataset | None) -> tuple[int, str]:
    """Length of a caption, and where the figure is from."""
    captions = []
    if dataset is not None:
        samples = (dataset[index] for index in range(min(8, len(dataset))))
        captions = [sample.caption for sample in samples if sample.caption]
    if not captions:
        return CAPTION_TOKENS, "as in the paper (arXiv 2507.07104)"
    return model.head.tokenize(captions)[0].shape[1], "the longest of the first 8"


def in_words(size: int) -> str:
    """A size in MiB or GiB."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**28 else f"{size / 2**20:.1f} MiB"
