"""`vlv demo`: what the bundled model does, as a page to look at."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vlv_core.cli._progress import Told
from vlv_core.console import Session
from vlv_core.errors import UsageError

if TYPE_CHECKING:
    from vlv_core.captioner import Captioner
    from vlv_core.protocols import Dataset
    from vlv_core.strips import Row

EXAMPLES = """\
\b
Examples:
  vlv demo
  vlv demo --out /tmp/demo --captions 1000
"""

CAPTIONED, REDRAWN = 24, 16
"""bundled pictures"""

EVALUATED = {"reconstructions": 32, "shown": 8}
"""options for the evaluators that have them"""


@click.command(name="demo", epilog=EXAMPLES)
@click.option("--out", default="runs/demo", show_default=True, metavar="DIR",
              type=click.Path(file_okay=False, path_type=Path), help="For the page.")  # fmt: skip
@click.option("--model", default="mini", show_default=True, help="Bundled model, or a folder.")
@click.option("--captions", default=300, show_default=True, help="Pictures to measure it on.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.pass_obj
def command(session: Session, *, out: Path, model: str, captions: int, device: str) -> None:
    """Caption and redraw the pictures that a model brings along, and measure it.

    The pictures lie in the model's folder `examples`. Writes report.html, one file with everything
    in it.
    """
    from vlv_core.cli._demo_page import Demo, page
    from vlv_core.evaluation import evaluate
    from vlv_core.files import write_atomically
    from vlv_core.loading import find_model, load

    started, told, plugins = time.monotonic(), Told(), session.plugins()
    dataset = bundled(find_model(model, plugins=plugins))
    captioner = load(model, parts="all", device=device, plugins=plugins)
    click.echo(f"{captioner.name}: {captioner.domain}", err=True)
    rows, references = redraw(captioner, dataset, told)
    report = evaluate(
        captioner, plugins=plugins, defaults={**EVALUATED, "captions": captions}, watcher=told
    )
    demo = Demo(
        model=captioner.name,
        domain=captioner.domain,
        rows=rows,
        references=references,
        report=report,
        marked=told.shown,
        seconds=time.monotonic() - started,
    )
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "report.html", page(demo).encode())
    click.echo(f"{out / 'report.html'} (took {demo.seconds:.0f} s)")


def bundled(folder: Path) -> Dataset:
    """The examples of a model's folder, with captions if it has them. Raises UsageError."""
    from vlv_core.builtin import FolderConfig, JsonlConfig
    from vlv_core.data.folder import open_folder
    from vlv_core.data.jsonl import open_jsonl

    examples = folder / "examples"
    if not examples.is_dir():
        raise UsageError(
            f"the model in {folder} brings no pictures along: it has no folder 'examples'",
            hint="'vlv caption' and 'vlv reconstruct' take your own pictures",
        )
    if (examples / "captions.jsonl").is_file():
        return open_jsonl(JsonlConfig(path="captions.jsonl"), examples)
    return open_folder(FolderConfig(path="examples"), folder)


def redraw(
    captioner: Captioner, dataset: Dataset, told: Told
) -> tuple[list[Row], list[str | None]]:
    """A row a picture: the view and its caption, for the first ones their drawings too; and true
    captions, where the dataset has them."""
    import numpy as np

    from vlv_core.preprocess import views
    from vlv_core.strips import Line, Row

    samples = [dataset[index] for index in range(min(len(dataset), CAPTIONED))]
    shown = views([sample.load() for sample in samples], captioner.view)
    encoded = captioner.encode(shown)
    texts = [said.text for said in captioner.caption(encoded)]
    told.progress("captions of bundled pictures", len(texts), len(texts))
    count = min(len(texts), REDRAWN)

    def drawn(source: Any) -> Any:
        return captioner.reconstruct(source, seed=0, keys=np.arange(count).tolist())

    # From the same noise, so that the two drawings differ by what the model was told alone.
    both = (drawn(encoded[:count]), drawn(captioner.from_text(texts[:count])))
    told.progress("drawings of bundled pictures", 2 * count, 2 * count)
    rows = []
    for number, (view, text) in enumerate(zip(shown, texts, strict=True)):
        others = tuple(each[number] for each in both) if number < count else ()
        rows.append(Row((view, *others), [Line(text)]))
    return rows, [sample.caption for sample in samples]
