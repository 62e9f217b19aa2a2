"""`vlv train`: a recipe's stages into a run folder."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlv_core.console import Session, Terminated
from vlv_core.overrides import parse_overrides

if TYPE_CHECKING:
    from vlv_core.recipe import Recipe
    from vlv_core.training.run import Run

EXAMPLES = """\
\b
Examples:
  vlv train recipe.toml
  vlv train recipe.toml --dry-run
  vlv train recipe.toml --resume                          (after a stop, or a kill)
  vlv train recipe.toml --stage 2 --set stage2.lr=1e-4 -o runs/other
  accelerate launch --multi_gpu -m vlv_core train recipe.toml
"""


@click.command(name="train", epilog=EXAMPLES)
@click.argument("recipe", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--stage", type=click.Choice(["1", "2"]), help="Train this stage alone.")
@click.option("--resume", is_flag=True, help="Continue from the run folder's newest checkpoint.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained, on what, and stop.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change the recipe.")
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), metavar="RUN_DIR",
              help="Run folder; runs/NAME by default.")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), help="Steps of each stage that is trained.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.pass_obj
def command(
    session: Session,
    *,
    recipe: Path,
    stage: str | None,
    resume: bool,
    dry_run: bool,
    changes: tuple[str, ...],
    out: Path | None,
    steps: int | None,
    device: str,
) -> None:
    """Train the stages of RECIPE.

    Both by default, one after the other; stage 2 alone starts from the run folder's stage 1 if it
    holds one, and else from the recipe's weights. After each stage the model is in RUN_DIR/model.
    """
    from vlv_core.recipe import load_recipe

    loaded = load_recipe(recipe, parse_overrides(changes))
    numbers = [int(stage)] if stage else [n for n in (1, 2) if getattr(loaded, f"stage{n}")]
    if steps is not None:
        loaded = _with_steps(loaded, numbers, steps)
    run = _start(session, loaded, root=recipe.parent, out=out, device=device)
    if dry_run:
        _dry_run(run, numbers)
        return
    try:
        _train(run, numbers, resume=resume, again=_again(recipe, stage, out, changes, steps))
    finally:
        run.accelerator.end_training()


def _start(session: Session, recipe: Recipe, *, root: Path, out: Path | None, device: str) -> Run:
    from vlv_core.training.loop import accelerate_on
    from vlv_core.training.run import Run
    from vlv_core.training.start import start_model

    plugins = session.plugins()
    accelerator = accelerate_on(device)
    model, choices = start_model(recipe, plugins=plugins, root=root)
    return Run(
        recipe=recipe,
        root=root,
        folder=out or Path("runs") / recipe.name,
        model=model,
        choices=choices,
        plugins=plugins,
        accelerator=accelerator,
        say=lambda line: click.echo(line, err=True),
    )


def _train(run: Run, numbers: list[int], *, resume: bool, again: str) -> None:
    from vlv_core.training.run import load_stage1, run_stage

    if numbers == [2]:
        started = load_stage1(run)
        run.tell(f"stage 2 starts from {'stage 1 of this run' if started else 'the recipe alone'}")
    for number in numbers:
        result = run_stage(run, number, resume=resume)
        if not result.complete:
            run.tell(f"stopped at step {result.step} of stage {number}; a checkpoint is written")
            run.tell(f"hint: {again} --resume goes on from there")
            raise KeyboardInterrupt if result.signal == signal.SIGINT else Terminated


def _again(
    recipe: Path, stage: str | None, out: Path | None, changes: tuple[str, ...], steps: int | None
) -> str:
    """The same command, for the hint; quoted for a shell."""
    import shlex

    words = ["vlv", "train", str(recipe)]
    words += ["--stage", stage] if stage else []
    words += [word for change in changes for word in ("--set", change)]
    words += ["--steps", str(steps)] if steps else []
    words += ["-o", str(out)] if out else []
    return shlex.join(words)


def _with_steps(recipe: Recipe, numbers: list[int], steps: int) -> Recipe:
    """Warm-up shrinks with the stage, so that a short trial run still reaches its peak."""
    for number in numbers:
        stage = getattr(recipe, f"stage{number}")
        if stage is not None:
            warmup = stage.warmup_steps * steps // stage.steps
            short = replace(stage, steps=steps, warmup_steps=warmup)
            recipe = replace(recipe, **{f"stage{number}": short})
    return recipe


def _dry_run(run: Run, numbers: list[int]) -> None:
    from rich.console import Console

    from vlv_core.cli._train_report import show

    show(run, numbers, console=Console(highlight=False, width=None))
