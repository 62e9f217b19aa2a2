"""`vlv-bench run`: measure."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from pathlib import Path

import click

from vlv_core.console import Session, Terminated
from vlv_core.errors import UsageError

EXAMPLES = """\
\b
Examples:
  vlv-bench run --quick -o OUT                     (a minute, not for publication)
  vlv-export mini -o mini-onnx --onnx --dtype fp32,int8,int4
  vlv-bench run --artefact mini-onnx -o OUT        (again, to go on after a stop)
  vlv-bench run single offline --artefact mini-onnx --rows torch-eager,onnx-int8 -o OUT
  vlv-bench run --artefact mini-onnx --dry-run     (rows, and why some cannot run)
"""
QUICK_TURNS, FULL_TURNS = 2, 5
FAILED = 5


@click.command(name="run", epilog=EXAMPLES)
@click.argument("cases", nargs=-1, metavar="[CASE]...")
@click.option("--model", default="mini", show_default=True, help="Bundled model, or a folder.")
@click.option("--artefact", "artefacts", multiple=True, metavar="OUT",
              type=click.Path(path_type=Path),
              help="What vlv-export made of the model; every variant is a row.")  # fmt: skip
@click.option("--rows", metavar="LIST", help="Backends or variants, such as torch-eager,onnx-int8.")
@click.option("--turns", type=click.IntRange(min=1),
              help="Fresh processes of each row; 5, of a quick run 2.")  # fmt: skip
@click.option("--quick", is_flag=True, help="Few samples, marked as not for publication.")
@click.option("--threads", type=click.IntRange(min=1), help="Of each row; all physical cores.")
@click.option("--seed", default=0, show_default=True, help="Of noise, and of the bootstrap.")
@click.option("--price-per-hour", type=click.FloatRange(min=0, min_open=True), metavar="USD",
              help="Of this machine, for the cost of captions.")  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), metavar="OUT",
              help="Folder of the run.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="List the rows and why some cannot run, and stop.")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    cases: tuple[str, ...],
    model: str,
    artefacts: tuple[Path, ...],
    rows: str | None,
    turns: int | None,
    quick: bool,
    threads: int | None,
    seed: int,
    price_per_hour: float | None,
    out: Path | None,
    dry_run: bool,
) -> None:
    """Measure CASEs (all but the long ones if none is named) and write a report into OUT.

    Each turn of each row is a fresh process, rows take turns, and a row's times count only if it
    says what torch says. Stopped or killed, the same command goes on where it was. Exit code 5 if
    a row failed.
    """
    from vlv_benchmarks.cli._shown import show_plan
    from vlv_benchmarks.job import Order
    from vlv_benchmarks.planning import make_plan
    from vlv_export.runtime.threads import pick_threads

    session = ctx.find_object(Session) or Session()
    order = Order(
        cases=cases,
        model=model,
        artefacts=artefacts,
        rows=tuple(each.strip() for each in (rows or "").split(",") if each.strip()),
        turns=turns or (QUICK_TURNS if quick else FULL_TURNS),
        quick=quick,
        threads=pick_threads(threads),
        seed=seed,
        plugins=session.plugins(),
        plugin_files=tuple(session.files),
        price_per_hour_usd=price_per_hour,
    )
    plan = make_plan(order)
    if dry_run:
        show_plan(plan, turns=order.turns)
        return
    if out is None:
        raise click.UsageError("missing option -o OUT, the folder of the run", ctx)
    if not plan.runnable:
        reasons = "; ".join(dict.fromkeys(plan.refused.values()))
        raise UsageError(f"no row can run here: {reasons}", hint="--dry-run lists them")
    ctx.exit(_measure(order, plan, out))


def _measure(order: object, plan: object, out: Path) -> int:
    """Exit code."""
    from vlv_benchmarks.cli._shown import Shown
    from vlv_benchmarks.runner import run
    from vlv_core.interrupt import StopRequest

    argv = ("vlv-bench", *sys.argv[1:])
    with StopRequest() as stop:
        outcome = run(
            order, plan, out, argv=argv, watcher=Shown(), stopped=lambda: stop.requested  # type: ignore[arg-type]
        )  # fmt: skip
    counts = {status: sum(each.status == status for each in outcome.record.result)
              for status in ("ok", "unstable", "failed", "not run")}  # fmt: skip
    click.echo(f"{len(outcome.record.result)} rows: "
               + ", ".join(f"{count} {status}" for status, count in counts.items()))  # fmt: skip
    for each in outcome.record.result:
        if each.status == "failed":
            click.echo(f"failed: {each.row.key}: {each.reason}", err=True)
    refused = Counter(each.reason for each in outcome.record.result if each.status == "not run")
    for reason, count in refused.items():
        click.echo(f"not run, {count} row{'s' * (count != 1)}: {reason}", err=True)
    click.echo(f"report: {out / 'report.html'}")
    if not outcome.complete:
        click.echo("stopped; the same command goes on from here", err=True)
        raise Terminated if stop.number == signal.SIGTERM else KeyboardInterrupt
    return FAILED if counts["failed"] else 0
