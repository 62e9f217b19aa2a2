"""`vlv reconstruct`: pictures beside what their embeddings and their captions draw."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlv_core.cli._caption_report import printable
from vlv_core.cli._opening import opening_options
from vlv_core.cli._progress import Told
from vlv_core.console import Session
from vlv_core.errors import SomeInputsFailed

if TYPE_CHECKING:
    from vlv_core.jobs import Progress
    from vlv_core.jobs.redraw import Redrawn

EXAMPLES = """\
\b
Examples:
  vlv reconstruct picture.jpg
  vlv reconstruct photos/ -o strips --guidance 2
  vlv reconstruct photos/*.png --seed 1 --steps 50
"""


@click.command(name="reconstruct", epilog=EXAMPLES)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--model", default="mini", show_default=True, help="Bundled model, or a folder.")
@click.option("-o", "--out", default="reconstructions", show_default=True, metavar="DIR",
              type=click.Path(path_type=Path), help="Folder of the strips.")  # fmt: skip
@click.option("--steps", default=25, show_default=True, help="Denoising steps.")
@click.option("--guidance", default=3.0, show_default=True, help="Above 1 follows z more closely.")
@click.option("--seed", default=0, show_default=True, help="Of the noise that drawing starts from.")
@click.option("--batch", default=16, show_default=True, help="Pictures at once.")
@opening_options
@click.pass_obj
def command(
    session: Session,
    *,
    paths: tuple[str, ...],
    model: str,
    out: Path,
    steps: int,
    guidance: float,
    seed: int,
    batch: int,
    device: str,
    dtype: str,
    threads: int | None,
) -> None:
    """Draw pictures again from their embeddings, and from their captions alone.

    PATH is a picture, a folder (every picture below it), a pattern, a tar archive, @list.txt or -.
    Each picture gets a PNG in DIR, named after it and its path: original | from the embedding |
    from the caption, and the caption below. Lines of path, tab and strip go to stdout. Pictures in
    DIR itself are skipped, so that no picture is ever overwritten.
    """
    from vlv_core.jobs import find_inputs
    from vlv_core.jobs.redraw import RedrawOptions, redraw_job
    from vlv_core.loading import load

    options = RedrawOptions(steps=steps, guidance=guidance, seed=seed, batch=batch)
    found = find_inputs(paths, stdin=sys.stdin.buffer)
    captioner = load(
        model, parts="all", device=device, dtype=dtype, threads=threads, plugins=session.plugins()
    )
    told = Told()

    def show(progress: Progress) -> None:
        counts = progress.counts
        todo = counts.total - counts.skipped
        told.progress("pictures", todo - counts.remaining, todo)

    counts = redraw_job(
        captioner, found.inputs, out=out, options=options, on_done=_tell, on_progress=show
    )
    ignored = f"; {found.ignored} other files ignored" if found.ignored else ""
    click.echo(f"{counts}{ignored}; strips in {out}", err=True)
    if counts.failed:
        raise SomeInputsFailed(f"{counts.failed} of {counts.total} inputs failed")


def _tell(result: Redrawn) -> None:
    if result.error is not None:
        click.echo(f"failed: {printable(result.path)}: {printable(result.error)}", err=True)
    else:
        click.echo(f"{printable(result.path)}\t{printable(str(result.file))}")
