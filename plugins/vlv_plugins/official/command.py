"""`vlv import official`: the command line; the work is in `_importer`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlv_core.console import Session

if TYPE_CHECKING:
    from vlv_plugins.official._report import Report

FLORENCE2 = "microsoft/Florence-2-large"
STABLE_DIFFUSION = "stabilityai/stable-diffusion-2-1-base"
LLM = "Qwen/Qwen2.5-3B"
VIEW_SIZE = 384
"""pixels; the release's code crops every picture to it, and no checkpoint says so"""

EXAMPLES = """\
\b
Examples:
  vlv import official VLV_stage2.pt -o models/vlv
  vlv import official stage1/ -o models/stage1 --florence2 ./Florence-2-large
  vlv caption picture.jpg --model models/vlv
"""


@click.command(name="official", epilog=EXAMPLES)
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path), metavar="CKPT")
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path),
              metavar="MODEL", help="Folder to write; it must not hold anything yet.")  # fmt: skip
@click.option("--florence2", default=FLORENCE2, show_default=True, metavar="DIR",
              help="Florence-2's folder or hub name.")  # fmt: skip
@click.option("--stable-diffusion", default=STABLE_DIFFUSION, show_default=True, metavar="DIR",
              help="Stable Diffusion's folder or hub name.")  # fmt: skip
@click.option("--llm", default=LLM, show_default=True, metavar="DIR",
              help="The language model's folder or hub name; not needed for stage 1.")  # fmt: skip
@click.option("--diffusion/--no-diffusion", default=None,
              help="Demand, or leave out, what only drawing needs; by default it is written "
              "if it can be had.")  # fmt: skip
@click.option("--view-size", type=click.IntRange(min=1), default=VIEW_SIZE, show_default=True,
              help="Edge of the view, pixels.")  # fmt: skip
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32",
              show_default=True, help="Of the weights on disk.")  # fmt: skip
@click.option("--name", help="The model's name; that of the folder unless given.")
@click.pass_obj
def command(
    session: Session,
    *,
    checkpoint: Path,
    out: Path,
    florence2: str,
    stable_diffusion: str,
    llm: str,
    diffusion: bool | None,
    view_size: int,
    dtype: str,
    name: str | None,
) -> None:
    """Turn CKPT, a checkpoint of the official release, into the model folder MODEL.

    CKPT is a safetensors, .bin, .pt or .pth file, or the folder that holds one. Nothing in it is
    executed. DIR options take a local folder or a repository: configuration and tokenizer come from
    there, and weights that the checkpoint lacks. MODEL/import.md says what became of every key.

    A stage-1 checkpoint has no language model: MODEL then holds parts that recipes may take
    `weights` from, and captions nothing.
    """
    from vlv_plugins.official._importer import Request, import_checkpoint
    from vlv_plugins.official._sources import Locations

    report = import_checkpoint(
        Request(
            checkpoint=checkpoint,
            out=out,
            locations=Locations(florence2, stable_diffusion, llm),
            diffusion=diffusion,
            view_size=view_size,
            dtype=dtype,
            name=name or out.resolve().name,
        ),
        plugins=session.plugins(),
    )
    _show(report, out)


def _show(report: Report, out: Path) -> None:
    for line in report.summary():
        click.echo(line)
    click.echo(f"written: {out}; every key is in {out / 'import.md'} and import.json", err=True)
