"""`vlv eval`: what a model gets right, with intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlv_core.cli._opening import opening_options
from vlv_core.cli._progress import Told
from vlv_core.console import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vlv_core.evaluation import Report
    from vlv_core.strips import Row

EXAMPLES = """\
\b
Examples:
  vlv eval mini
  vlv eval runs/mine/model --out runs/mine/eval --captions 500
  vlv eval mini --full --out report
  vlv eval mini --set splits='["iid", "mirrored"]'
"""

ROWS_A_SHEET = 8
"""examples in one picture"""


@click.command(name="eval", epilog=EXAMPLES)
@click.argument("model", required=False)
@click.option("--model", "named", metavar="MODEL", help="MODEL, as other commands take it.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Write eval.json, EVAL.md and pictures here.")  # fmt: skip
@click.option("--evaluator", "names", multiple=True, metavar="NAME", help="All, unless named.")
@click.option("--full", is_flag=True, help="Measure every split as well, and sweep guidance.")
@click.option("--captions", type=int, help="Pictures to caption.")
@click.option("--reconstructions", type=int, help="Pictures to redraw; 0 for none.")
@click.option("--guidance", type=float, help="Of the reconstructions.")
@click.option("--steps", type=int, help="Denoising steps of the reconstructions.")
@click.option("--seed", type=int, help="Of noise and intervals.")
@click.option("--batch", type=int, help="Pictures at once.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Other options.")
@opening_options
@click.pass_obj
def command(
    session: Session,
    *,
    model: str | None,
    named: str | None,
    out: Path | None,
    names: tuple[str, ...],
    full: bool,
    captions: int | None,
    reconstructions: int | None,
    guidance: float | None,
    steps: int | None,
    seed: int | None,
    batch: int | None,
    changes: tuple[str, ...],
    device: str,
    dtype: str,
    threads: int | None,
) -> None:
    """Measure MODEL, a bundled model or a folder, by the registered evaluators.

    Options left out are the evaluator's own. Every figure has a 95 % interval.
    """
    if (model is None) == (named is None):
        raise click.UsageError("name one MODEL to measure")
    from vlv_core.evaluation import evaluate
    from vlv_core.loading import load
    from vlv_core.overrides import apply_overrides, parse_overrides

    given = {
        "full": full or None,
        "captions": captions,
        "reconstructions": reconstructions,
        "guidance": guidance,
        "steps": steps,
        "seed": seed,
        "batch": batch,
    }
    options = {name: value for name, value in given.items() if value is not None}
    options = apply_overrides(options, parse_overrides(changes))
    plugins, told = session.plugins(), Told()
    captioner = load(
        model or named or "",
        parts="caption" if options.get("reconstructions") == 0 else "all",
        device=device,
        dtype=dtype,
        threads=threads,
        plugins=plugins,
    )
    report = evaluate(captioner, plugins=plugins, names=names, options=options, watcher=told)
    show(report)
    if out is not None:
        write(report, told.shown, out)
        click.echo(f"written: {out / 'EVAL.md'}, eval.json and pictures beside it", err=True)


def show(report: Report) -> None:
    """Print the values without their intervals."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from vlv_core.evaluation import tables

    console = Console(highlight=False)
    for group in tables(report):
        table = Table(group.title, *group.columns, box=None, header_style="bold")
        for name, cells in group.rows.items():
            values = ("-" if cell is None else f"{cell['value']:.3f}" for cell in cells)
            table.add_row(*map(Text, (name, *values)))
        console.print(table, "")


def write(report: Report, examples: Sequence[Row], out: Path) -> None:
    """EVAL.md, sheets of examples, and eval.json last."""
    from vlv_core.evaluation import TITLES, markdown
    from vlv_core.files import write_atomically
    from vlv_core.strips import png, strip

    out.mkdir(parents=True, exist_ok=True)
    text = markdown(report)
    for start in range(0, len(examples), ROWS_A_SHEET):
        name = f"examples-{start // ROWS_A_SHEET + 1}.png"
        sheet = strip(examples[start : start + ROWS_A_SHEET], titles=TITLES)
        write_atomically(out / name, png(sheet))
        text += f"\n![{' | '.join(TITLES)}]({name})\n"
    write_atomically(out / "EVAL.md", text.encode())
    # Last: where eval.json is, the rest is too. NaN would be no JSON.
    data = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(out / "eval.json", f"{data}\n".encode())
