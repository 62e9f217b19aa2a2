"""Scene F1 against training step, for both stages of a run that kept its checkpoints.

    python -m vlv_plugins.mini.curve recipes/mini.toml runs/mini -o runs/mini/f1

Writes OUT.json and OUT.png: reconstructions after stage 1's checkpoints, captions after stage 2's.
"""

import json
from pathlib import Path
from typing import Any

import click

MEASURED = {
    1: ("reconstruction", "embedding", {"captions": 1, "reconstructions": 256, "shown": 0}),
    2: ("splits", "iid", {"captions": 512, "reconstructions": 0}),
}
"""for each stage: where its F1 stands in a report, and what the evaluator is asked for"""


@click.command()
@click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Without ending.")
@click.option("--guidance", default=1.0, show_default=True, help="Of the reconstructions.")
def main(recipe: Path, run: Path, out: Path, guidance: float) -> None:
    """Measure the checkpoints of RUN, which trained RECIPE."""
    curves = {f"stage{stage}": measure(recipe, run, stage, guidance=guidance) for stage in MEASURED}
    out.with_suffix(".json").write_text(json.dumps(curves, indent=1))
    draw(curves, out.with_suffix(".png"))


def measure(recipe: Path, run: Path, stage: int, *, guidance: float) -> list[dict[str, Any]]:
    """A row {step, value, low, high} for each checkpoint of a stage, oldest first."""
    from vlv_core.captioner import Captioner
    from vlv_core.evaluation import evaluate
    from vlv_core.model_folder import load_model
    from vlv_core.plugins import load_plugins
    from vlv_core.recipe import load_recipe
    from vlv_core.torch_backend import TorchBackend
    from vlv_core.training import checkpoint
    from vlv_core.training.freeze import select

    loaded, plugins = load_recipe(recipe), load_plugins()
    model, _ = load_model(run / "model", plugins=plugins)
    named = select(model, getattr(loaded, f"stage{stage}").train)
    group, entry, options = MEASURED[stage]
    rows = []
    for path in reversed(checkpoint.steps(run / f"stage{stage}" / "checkpoints")):
        found = checkpoint.load(path)
        checkpoint.copy_weights(found.ema or found.weights, named)
        captioner = Captioner(TorchBackend(model), name=path.name, domain="", view=loaded.view)
        asked = {"splits": ["iid"], "guidance": guidance, **options}
        report = evaluate(captioner, plugins=plugins, names=["scenes"], options=asked)
        rows.append({"step": found.step, **report[group][entry]["scene_f1"]})
        click.echo(f"stage {stage}, step {found.step}: scene F1 {rows[-1]['value']:.3f}")
    return rows


def draw(curves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Both curves with their 95 % intervals, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    labels = {"stage1": "stage 1: reconstructions, by the oracle", "stage2": "stage 2: captions"}
    for name, rows in curves.items():
        steps = [row["step"] for row in rows]
        axes.plot(steps, [row["value"] for row in rows], marker="o", label=labels[name])
        axes.fill_between(
            steps, [row["low"] for row in rows], [row["high"] for row in rows], alpha=0.2
        )
    axes.set(xlabel="training step", ylabel="scene F1 (iid)", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
