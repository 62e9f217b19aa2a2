"""A recipe's stages, one after the other, into a run folder.

RUN/stage1/    checkpoints, metrics.jsonl, loss.png, quarantine.jsonl, strips
RUN/stage2/    the same
RUN/cache/     what frozen parts computed
RUN/model/     the model, written after each stage
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from vlv_core.captioner import Captioner
from vlv_core.config import to_dict
from vlv_core.data.quarantine import Quarantine
from vlv_core.errors import UsageError
from vlv_core.files import write_atomically
from vlv_core.model import VLV
from vlv_core.model_folder import save_model
from vlv_core.protocols import Dataset
from vlv_core.recipe import Recipe, Stage
from vlv_core.registry import Plugins
from vlv_core.torch_backend import TorchBackend
from vlv_core.training import checkpoint
from vlv_core.training.charts import draw_curve
from vlv_core.training.freeze import select
from vlv_core.training.log import read
from vlv_core.training.loop import Result, Strip, train
from vlv_core.training.measure import SAMPLES, denoising_error
from vlv_core.training.stages import Stage1Task, Stage2Task, StageTask
from vlv_core.training.start import Start, open_dataset
from vlv_core.training.strip import draw_strip, readable, strip_rows

STRIP_PICTURES = 4
TASKS: dict[int, type[StageTask]] = {1: Stage1Task, 2: Stage2Task}


@dataclass
class Run:
    """One run of a recipe."""

    recipe: Recipe
    root: Path
    """the recipe's folder, where relative paths start"""
    folder: Path
    start: Start
    datasets: dict[int, Dataset]
    """of the stages that are trained"""
    plugins: Plugins
    accelerator: Accelerator
    say: Callable[[str], None]
    """takes a line for the user"""
    self_contained: bool = False
    """whether the model holds the weights too that others could fetch from their source"""

    @property
    def model(self) -> VLV:
        return self.start.model

    def stage(self, number: int) -> Stage:
        return stage_of(self.recipe, number)

    def tell(self, line: str) -> None:
        if self.accelerator.is_main_process:
            self.say(line)

    def identity(self, number: int) -> dict[str, Any]:
        """What decides the weights of this stage: all of the recipe but its name and later stages,
        and the weights it starts from: a branch moves, a folder changes, a trial has random ones.
        """
        table = to_dict(self.recipe)
        if number == 1:
            table.pop("stage2", None)
        table.pop("name")
        table["first_weights"] = {part: o.sha256[:16] for part, o in self.start.origins.items()}
        return dict(_flat(table))


def open_datasets(
    recipe: Recipe, numbers: Sequence[int], *, plugins: Plugins, root: Path
) -> dict[int, Dataset]:
    """The data of these stages: opened before weights are fetched or a step is made.

    Raises UsageError for a stage that the recipe has not, and what opening raises.
    """
    return {
        number: open_dataset(stage_of(recipe, number).data, plugins=plugins, root=root)
        for number in numbers
    }


def check_trained(run: Run) -> None:
    """Raise before the first step what would else stop a later stage, or saving, after days."""
    _trained(run)


def stage_of(recipe: Recipe, number: int) -> Stage:
    """Raises UsageError if the recipe has no such stage."""
    found: Stage | None = getattr(recipe, f"stage{number}")
    if found is None:
        there = [f"stage{n}" for n in (1, 2) if getattr(recipe, f"stage{n}")]
        raise UsageError(
            f"recipe {recipe.name!r} has no [stage{number}]; it has {', '.join(there) or 'none'}"
        )
    return found


def run_stage(run: Run, number: int, *, resume: bool) -> Result:
    """Train one stage and, if it came to its end, write the model folder."""
    stage = run.stage(number)
    out = run.folder / f"stage{number}"
    dataset = run.datasets[number]
    _place(run, number)
    before = _reconstruction(run, dataset, number)
    quarantine = Quarantine(out / "quarantine.jsonl")
    task = TASKS[number](run.model, dataset, stage, quarantine=quarantine)
    parts = {role: to_dict(part) for role, part in run.recipe.parts().items()}
    for line in task.open_caches(run.folder / "cache", config=json.dumps(parts, sort_keys=True)):
        run.tell(line)
    try:
        result = train(
            task,
            stage,
            out=out,
            resume=resume,
            identity=run.identity(number),
            accelerator=run.accelerator,
            progress=run.say,
            strip=_strip(run, task, out),
        )
    finally:
        _conclude(run, task, out)
    if result.complete:
        _compare(run, dataset, number, before)
        _save(run, number)
    return result


def load_stage1(run: Run) -> bool:
    """Put a finished stage 1 of this run folder into the model; False if there is none.

    Raises UsageError if it is there but not finished, ConfigError if it is of another recipe.
    """
    folder = run.folder / "stage1"
    found = checkpoint.newest(folder / "checkpoints")
    if found is None:
        return False
    checkpoint.check_identity(found.identity, run.identity(1), folder=folder)
    stage = run.stage(1)
    if found.step < stage.steps:
        raise UsageError(
            f"stage 1 in '{folder}' stopped at step {found.step} of {stage.steps}",
            hint="finish it with --stage 1 --resume",
        )
    named = select(run.model, stage.train)
    checkpoint.copy_weights(found.ema or found.weights, named)
    return True


def _place(run: Run, number: int) -> None:
    """Put on the device what this stage computes with; the rest would only take memory there."""
    draws = run.stage(number).strip_every or _moves_encoder(run, number)
    idle = {1: "head", 2: "" if draws else "diffusion"}[number]
    for name, module in run.model.parts():
        module.to("cpu" if name == idle else run.accelerator.device)


def _strip(run: Run, task: StageTask, out: Path) -> Strip | None:
    if not task.stage.strip_every or run.model.diffusion is None:
        return None
    if not run.accelerator.is_main_process:
        return None
    name, domain = run.recipe.name, run.recipe.domain
    captioner = Captioner(TorchBackend(run.model), name=name, domain=domain, view=run.recipe.view)
    pictures = readable(task.dataset, view=run.recipe.view, count=STRIP_PICTURES)

    def draw(step: int) -> None:
        task.modules.eval()
        rows = strip_rows(captioner, pictures, captions=task.number == 2)
        draw_strip(rows, out / "strips" / f"step-{step:08d}.png")
        task.modules.train()

    return draw


def _conclude(run: Run, task: StageTask, out: Path) -> None:
    """After training: curve, quarantine, what the cache gave."""
    for line in task.shares.lines():
        run.tell(line)
    if len(task.quarantine):
        run.tell(
            f"{len(task.quarantine)} unreadable pictures were left out, see "
            f"'{task.quarantine.path}'"
        )
    rows = read(out / "metrics.jsonl")
    if rows and run.accelerator.is_main_process:
        draw_curve(rows, out / "loss.png", title=task.name)


def _reconstruction(run: Run, dataset: Dataset, number: int) -> float | None:
    """The denoising error before a stage 2 that trains what stage 1 trained."""
    if run.model.diffusion is None or not _moves_encoder(run, number):
        return None
    return _denoising_error(run, dataset, number)


def _denoising_error(run: Run, dataset: Dataset, number: int) -> float:
    """On no more pictures than the stage sees, and no more at once than it trains on."""
    stage = run.stage(number)
    seen, rows = stage.steps * stage.batch, stage.batch // stage.accumulate
    return denoising_error(run.model, dataset, samples=min(seen, SAMPLES), rows=rows)


def _moves_encoder(run: Run, number: int) -> bool:
    """Whether this is a stage 2 that trains what stage 1 trained."""
    trained = {entry.partition(".")[0] for entry in run.stage(number).train}
    return number == 2 and bool(trained & {"encoder", "bottleneck"})


def _compare(run: Run, dataset: Dataset, number: int, before: float | None) -> None:
    if before is None:
        return
    after = _denoising_error(run, dataset, number)
    run.tell(
        f"reconstruction: denoising error {before:.5f} before stage 2, {after:.5f} after it "
        f"({after / before - 1:+.1%})"
    )
    if run.accelerator.is_main_process:
        record = {"denoising_error": {"before": before, "after": after}}
        path = run.folder / f"stage{number}" / "reconstruction.json"
        write_atomically(path, json.dumps(record, indent=2).encode())


def _save(run: Run, number: int) -> None:
    if run.accelerator.is_main_process:
        stage, recipe = run.stage(number), run.recipe
        save_model(
            run.model,
            run.folder / "model",
            choices=run.start.choices,
            name=recipe.name,
            licence=recipe.licence,
            domain=recipe.domain,
            training={"recipe": recipe.name, "seed": recipe.seed, f"stage{number}": stage.steps},
            origins={} if run.self_contained else run.start.origins,
            trained=_trained(run),
        )
        run.say(f"model after stage {number}: {run.folder / 'model'}")
    run.accelerator.wait_for_everyone()


def _trained(run: Run) -> set[str]:
    """Names of all parameters that a stage of the recipe trains."""
    stages = (run.recipe.stage1, run.recipe.stage2)
    return {name for stage in stages if stage for name, _ in select(run.model, stage.train)}


def _flat(table: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in table.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows
