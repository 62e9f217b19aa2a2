"""`vlv caption`: words for pictures, from one to millions."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlv_core.cli._caption_report import Report
from vlv_core.cli._opening import opening_options
from vlv_core.console import Session, Terminated
from vlv_core.errors import SomeInputsFailed

if TYPE_CHECKING:
    from vlv_core.captioner import Captioner
    from vlv_core.generation import GenerationOptions
    from vlv_core.jobs import Counts

EXAMPLES = """\
\b
Examples:
  vlv caption picture.jpg
  vlv caption photos/ --out captions.jsonl     (again, to go on after a stop)
  vlv caption photos/ --sidecar                (photo.txt beside photo.jpg)
  vlv caption shards/*.tar --out captions.jsonl --retry-failed
  find . -name '*.png' -print0 | vlv caption - --out captions.jsonl
"""

OUT_HELP = "Write a row a picture, and go on where the file ends; '-' writes rows to stdout."


@click.command(name="caption", epilog=EXAMPLES)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--model", default="mini", show_default=True, help="Bundled model, or a folder.")
@click.option("--beams", type=int, help="Search with so many beams.")
@click.option("--temperature", type=float, help="Draw the words; 0 takes the likeliest.")
@click.option("--top-p", type=float, help="Draw from the likeliest words of this probability.")
@click.option("--seed", type=int, help="Of the draws.")
@click.option("--max-new-tokens", type=int, help="Longest caption, tokens.")
@click.option("--batch", default=16, show_default=True, help="Pictures at once.")
@click.option("--out", metavar="FILE.jsonl", help=OUT_HELP)
@click.option("--sidecar", is_flag=True, help="Write a .txt beside each picture.")
@click.option("--retry-failed", is_flag=True, help="Try again what failed in an earlier run.")
@click.option("--overwrite", is_flag=True, help="Start anew: discard --out, replace sidecars.")
@opening_options
@click.pass_obj
def command(
    session: Session,
    *,
    paths: tuple[str, ...],
    model: str,
    beams: int | None,
    temperature: float | None,
    top_p: float | None,
    seed: int | None,
    max_new_tokens: int | None,
    batch: int,
    out: str | None,
    sidecar: bool,
    retry_failed: bool,
    overwrite: bool,
    device: str,
    dtype: str,
    threads: int | None,
) -> None:
    """Caption pictures.

    PATH is a picture, a folder (every picture below it), a pattern, a tar archive, @list.txt (a
    path a line), or - for such a list on stdin. Without --out, lines of path, tab and caption go
    to stdout. A picture that fails never stops the others; exit code 4 says that some did.
    """
    from vlv_core.interrupt import StopRequest
    from vlv_core.jobs import JobOptions, caption_job, find_inputs
    from vlv_core.loading import load

    job = JobOptions(batch=batch, retry_failed=retry_failed, overwrite=overwrite, sidecar=sidecar)
    found = find_inputs(paths, stdin=sys.stdin.buffer)
    captioner = load(model, device=device, dtype=dtype, threads=threads, plugins=session.plugins())
    given = {
        "beams": beams,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "max_new_tokens": max_new_tokens,
    }
    with StopRequest() as stop, Report(out, total=len(found.inputs)) as report:
        counts = caption_job(
            captioner,
            found.inputs,
            out=Path(out) if out and out != "-" else None,
            options=decoding(captioner, given),
            job=job,
            on_rows=report.rows,
            on_progress=report.progress,
            stopped=lambda: stop.requested,
        )
    report.close(counts, ignored=found.ignored)
    _conclude(counts, stop.number, kept=sidecar or report.file is not None)


def decoding(
    captioner: Captioner, given: dict[str, int | float | None]
) -> GenerationOptions | None:
    """The model's own way of decoding, changed by what was given; None if nothing was."""
    import numpy as np

    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        return None
    edge = captioner.view.size
    blank = captioner.encode(np.zeros((1, edge, edge, 3), np.uint8))
    return replace(captioner.options(blank, None), **changes)  # type: ignore[arg-type]


def _conclude(counts: Counts, number: int | None, *, kept: bool) -> None:
    """Say how the job ended, as an exit code."""
    if counts.remaining:
        way = "the same command goes on from here" if kept else "with --out it could go on later"
        click.echo(f"stopped with {counts.remaining} left; {way}", err=True)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
    failed = counts.failed + counts.skipped_failed
    if failed:
        raise SomeInputsFailed(
            f"{failed} of {counts.total} inputs failed",
            hint="--retry-failed tries them again" if kept else None,
        )
