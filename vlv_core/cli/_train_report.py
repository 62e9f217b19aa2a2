"""What `vlv train --dry-run` shows: parts, memory, data, steps."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from vlv_core.model_folder import ROLE_OF
from vlv_core.training.estimate import Memory, estimate, in_words
from vlv_core.training.freeze import freeze_table

if TYPE_CHECKING:
    from rich.console import Console

    from vlv_core.protocols import Dataset
    from vlv_core.recipe import Stage
    from vlv_core.training.run import Run


def show(run: Run, numbers: list[int], *, console: Console) -> None:
    """Print the dry run of these stages. Reads the first sample of each; trains nothing."""
    from vlv_core.training.start import open_dataset

    tables = {n: freeze_table(run.model, run.stage(n).train, stage=n) for n in numbers}
    parts = Table("PART", "PLUGIN", "PARAMETERS", *[f"STAGE {n}" for n in numbers], box=None)
    for row in zip(*tables.values(), strict=True):
        role = ROLE_OF.get(row[0].part, row[0].part)
        plugin = run.recipe.parts()[role].plugin
        cells = (row[0].part, plugin, f"{row[0].parameters:,}", *(r.state for r in row))
        parts.add_row(*map(Text, cells))
    console.print(Text(f"recipe {run.recipe.name}, seed {run.recipe.seed} -> {run.folder}"))
    console.print(parts)
    for number in numbers:
        stage = run.stage(number)
        dataset = open_dataset(stage.data, plugins=run.plugins, root=run.root)
        console.print(Text(f"\nstage {number}"))
        for line in (*_plan(stage, dataset, run), *_memory(_estimate(run, number, dataset))):
            console.print(Text(f"  {line}"), soft_wrap=True)


def _plan(stage: Stage, dataset: Dataset, run: Run) -> list[str]:
    samples, found = stage.steps * stage.batch, len(dataset)
    described = ", ".join(f"{key} {value}" for key, value in dataset.describe().items())
    return [
        f"data: {stage.data.dataset}, {found:,} samples ({described})",
        f"steps: {stage.steps:,} x {stage.batch} = {samples:,} samples, "
        f"{samples / max(1, found):.2f} epochs, on {run.accelerator.num_processes} processes",
        f"{stage.optimizer}, lr {stage.lr:g} {stage.schedule}, warm-up {stage.warmup_steps}, "
        f"{stage.dtype}, cache {stage.cache}",
    ]


def _estimate(run: Run, number: int, dataset: Dataset) -> Memory:
    from vlv_core.data.quarantine import Quarantine
    from vlv_core.training.run import TASKS

    with tempfile.TemporaryDirectory() as scratch:
        quarantine = Quarantine(Path(scratch) / "quarantine.jsonl")
        task = TASKS[number](run.model, dataset, run.stage(number), quarantine=quarantine)
        return estimate(task, run.stage(number), processes=run.accelerator.num_processes)


def _memory(memory: Memory) -> list[str]:
    return [
        f"memory a process: about {in_words(memory.total)} = "
        f"weights {in_words(memory.weights)} + gradients {in_words(memory.gradients)} + "
        f"optimiser {in_words(memory.optimizer)} + activations {in_words(memory.activations)}"
    ]
