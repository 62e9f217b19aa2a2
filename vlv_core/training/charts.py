"""The loss curve as a picture."""

from collections.abc import Sequence
from pathlib import Path

from vlv_core.training.log import Metrics


def draw_curve(rows: Sequence[Metrics], path: Path, *, title: str) -> None:
    """Loss and learning rate against the step, as PNG."""
    # the figure is made without pyplot, which would pick a backend and keep global state
    from matplotlib.figure import Figure

    steps = [row.step for row in rows]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, [row.loss for row in rows], color="C0", linewidth=1)
    axes.set(xlabel="step", ylabel="loss", title=title)
    axes.grid(alpha=0.3)
    rates = axes.twinx()
    rates.plot(steps, [row.lr for row in rows], color="C1", linewidth=0.8, linestyle="--")
    rates.set_ylabel("learning rate", color="C1")
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png", dpi=110)
    partial.replace(path)
