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
  vlv train recipe.toml --random-weights --steps 2        (does it all fit? nothing is downloaded)
  vlv train recipe.toml --resume                          (after a stop, or a kill)
  vlv train recipe.toml --stage 2 --set stage2.lr=1e-4 -o runs/other
  accelerate launch --multi_gpu -m vlv_core train recipe.toml
"""


@click.command(name="train", epilog=EXAMPLES)
@click.argument("recipe", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--stage", type=click.Choice(["1", "2"]), help="Train this stage alone.")
@click.option("--resume", is_flag=True, help="Continue from the run folder's newest checkpoint.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained, on what, and stop.")
@click.option(
    "--random-weights",
    is_flag=True,
    help="Try the recipe: no downloads, data made up where it is absent, small batches.",
)
@click.option(
    "--tflops",
    type=click.FloatRange(min=0, min_open=True),
    default=150.0,
    show_default=True,
    help="Rate that a dry run's GPU hours are stated for; the default "
    "is half of an A100's peak in bfloat16, or 15 % of an H100's.",
)
@click.option(
    "--self-contained",
    is_flag=True,
    help="Copy weights into the model that it could fetch from their source.",
)
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
    random_weights: bool,
    tflops: float,
    self_contained: bool,
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

    overrides = parse_overrides(changes)
    loaded = load_recipe(recipe, overrides)
    numbers = [int(stage)] if stage else [n for n in (1, 2) if getattr(loaded, f"stage{n}")]
    if steps is not None:
        loaded = _with_steps(loaded, numbers, steps)
    out = out or Path("runs") / loaded.name
    if dry_run:
        fetching = not random_weights
        _dry_run(session, loaded, numbers, recipe.parent, out, tflops=tflops, fetching=fetching)
        return
    if random_weights:
        loaded = _trial(session, loaded, {".".join(path) for path, _ in overrides})
    run = _start(
        session, loaded, numbers, recipe.parent, out, device=device, random_weights=random_weights
    )
    run.self_contained = self_contained
    _train(run, numbers, resume=resume, again=_again())


def _start(
    session: Session,
    recipe: Recipe,
    numbers: list[int],
    root: Path,
    out: Path,
    *,
    device: str,
    random_weights: bool,
) -> Run:
    from vlv_core.training.loop import accelerate_on
    from vlv_core.training.run import Run, open_datasets
    from vlv_core.training.start import start_model

    plugins = session.plugins()
    accelerator = accelerate_on(device)
    # first of all, for weights may take an hour to fetch
    datasets = open_datasets(recipe, numbers, plugins=plugins, root=root)
    return Run(
        recipe=recipe,
        root=root,
        folder=out,
        start=start_model(recipe, plugins=plugins, root=root, random_weights=random_weights),
        datasets=datasets,
        plugins=plugins,
        accelerator=accelerator,
        say=lambda line: click.echo(line, err=True),
    )


def _trial(session: Session, recipe: Recipe, kept: set[str]) -> Recipe:
    from vlv_core.training.trial import trial

    recipe, said = trial(recipe, plugins=session.plugins(), kept=kept)
    for line in ("random weights: a trial, which learns nothing of use", *said):
        click.echo(line, err=True)
    return recipe


def _train(run: Run, numbers: list[int], *, resume: bool, again: str) -> None:
    from vlv_core.training.run import check_trained, load_stage1, run_stage

    check_trained(run)
    if numbers == [2]:
        started = load_stage1(run)
        run.tell(f"stage 2 starts from {'stage 1 of this run' if started else 'the recipe alone'}")
    for number in numbers:
        result = run_stage(run, number, resume=resume)
        if not result.complete:
            run.tell(f"stopped at step {result.step} of stage {number}; a checkpoint is written")
            run.tell(f"hint: {again} --resume goes on from there")
            raise KeyboardInterrupt if result.signal == signal.SIGINT else Terminated


def _again() -> str:
    """The same command, for the hint; quoted for a shell."""
    import shlex
    import sys

    return shlex.join(["vlv", *(word for word in sys.argv[1:] if word != "--resume")])


def _with_steps(recipe: Recipe, numbers: list[int], steps: int) -> Recipe:
    """Warm-up shrinks with the stage, so that a short trial run still reaches its peak."""
    for number in numbers:
        stage = getattr(recipe, f"stage{number}")
        if stage is not None:
            warmup = stage.warmup_steps * steps // stage.steps
            short = replace(stage, steps=steps, warmup_steps=warmup)
            recipe = replace(recipe, **{f"stage{number}": short})
    return recipe


def _dry_run(
    session: Session,
    recipe: Recipe,
    numbers: list[int],
    root: Path,
    out: Path,
    *,
    tflops: float,
    fetching: bool,
) -> None:
    from rich.console import Console

    from vlv_core.cli._train_report import DryRun, show
    from vlv_core.training.loop import accelerate_on
    from vlv_core.training.start import outline

    plugins = session.plugins()
    dry = DryRun(
        recipe=recipe,
        model=outline(recipe, plugins=plugins, root=root, fetching=fetching).model,
        plugins=plugins,
        root=root,
        folder=out,
        numbers=numbers,
        processes=accelerate_on("cpu").num_processes,
        rate_tflops=tflops,
    )
    show(dry, console=Console(highlight=False, width=None))
