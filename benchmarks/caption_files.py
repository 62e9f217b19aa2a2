"""How fast are picture files captioned, by the trained model in torch and by its artefact?

    python benchmarks/caption_files.py OUT
    python benchmarks/caption_files.py OUT --variant onnx-int4 --count 500 --turns 3

OUT is what `vlv-export mini -o OUT --onnx` wrote. Both run the command's own job (decode in
threads, caption, journal) on the same PNG files at the same batch, in turns, so that a busy machine
slows both alike; a ratio is of one turn. The first turn is not counted. Shares of the time are what
the calling thread spent in the median turn; reading and decoding overlap with the model.
"""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click
from PIL import Image

from vlv_core.captioner import Captioner
from vlv_core.config import configure
from vlv_core.jobs import JobOptions, caption_job, find_inputs
from vlv_core.loading import load
from vlv_core.plugins import load_plugins
from vlv_core.specs import resolve

STAGES = ("encode", "prefill", "step", "select", "words")
"""of a captioner, in the order of a caption; the rest of the time is waiting for files, and rows"""


class Turn(NamedTuple):
    seconds: float
    captions: tuple[str, ...]
    stages: dict[str, float]


@click.command(help=__doc__.splitlines()[0])
@click.argument("artefact", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", default="mini", show_default=True, help="What the artefact was made of.")
@click.option("--variant", "variants", multiple=True, help="Of the artefact; the default alone.")
@click.option("--count", default=2000, show_default=True, help="PNG files.")
@click.option("--batch", default=64, show_default=True)
@click.option("--turns", default=5, show_default=True)
@click.option("--threads", type=int, help="Of each; all cores if left out.")
def main(
    *,
    artefact: Path,
    model: str,
    variants: tuple[str, ...],
    count: int,
    batch: int,
    turns: int,
    threads: int | None,
) -> None:
    from vlv_export import Runtime

    contestants = {f"torch {model}": load(model, threads=threads, device="cpu")}
    for variant in variants or (None,):
        opened = Runtime.open(artefact, variant=variant, threads=threads)
        contestants[variant or "artefact"] = opened
    with tempfile.TemporaryDirectory() as folder:
        paths = write_scenes(Path(folder) / "png", count=count)
        results: dict[str, list[Turn]] = {name: [] for name in contestants}
        for turn in range(turns + 1):
            for name, captioner in contestants.items():
                done = one_turn(captioner, paths, Path(folder) / "out.jsonl", batch=batch)
                if turn:
                    results[name].append(done)
    report(results, count=count, batch=batch)


def write_scenes(folder: Path, *, count: int) -> Path:
    """The bundled world's pictures as PNG files."""
    spec = load_plugins().get("dataset", "scenes").spec
    dataset = resolve(spec.open)(configure(spec.config, {}, "scenes"), Path())
    folder.mkdir()
    for index in range(count):
        Image.fromarray(dataset[index].load()).save(folder / f"{index:06d}.png")
    return folder


def one_turn(captioner: Captioner, pictures: Path, out: Path, *, batch: int) -> Turn:
    """Caption every file into a new journal."""
    out.unlink(missing_ok=True)
    inputs = find_inputs([str(pictures)]).inputs
    captions: list[str] = []
    with timed_stages(captioner) as stages:
        started = time.perf_counter()
        counts = caption_job(
            captioner,
            inputs,
            out=out,
            job=JobOptions(batch=batch),
            on_rows=lambda rows: captions.extend(row.caption or "" for row in rows),
        )
        seconds = time.perf_counter() - started
    if counts.ok != len(inputs):
        raise click.ClickException(f"{counts.failed} of {len(inputs)} pictures failed")
    return Turn(seconds, tuple(captions), dict(stages))


@contextmanager
def timed_stages(captioner: Captioner) -> Iterator[dict[str, float]]:
    """Seconds inside each stage of the captioner's backend while the context is open."""
    spent: dict[str, float] = defaultdict(float)
    backend: Any = captioner.backend

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            started = time.perf_counter()
            try:
                return call(*args)
            finally:
                spent[name] += time.perf_counter() - started

        return run

    def start(prefix: Any, capacity: int) -> Any:
        stepper = plain_start(prefix, capacity)
        for name in ("prefill", "step", "select"):
            setattr(stepper, name, timed(name, getattr(stepper, name)))
        return stepper

    plain_start = backend.start
    backend.encode = timed("encode", backend.encode)
    backend.words = timed("words", backend.words)
    backend.start = start
    try:
        yield spent
    finally:
        for name in ("encode", "words", "start"):
            delattr(backend, name)


def report(results: dict[str, list[Turn]], *, count: int, batch: int) -> None:
    """Print a Markdown table, each contestant beside the first."""
    first = next(iter(results.values()))
    click.echo(f"{count} PNG files, batch {batch}, {len(first)} turns\n")
    click.echo(
        f"| | images/s | speed-up (lowest, highest) | same words | {' | '.join(STAGES)} | rest |"
    )
    click.echo("|---|---|---|---|" + "---|" * (len(STAGES) + 1))
    for name, turns in results.items():
        ratios = [one.seconds / two.seconds for one, two in zip(first, turns, strict=True)]
        same = sum(map(str.__eq__, first[0].captions, turns[0].captions)) / count
        middle = sorted(turns, key=lambda turn: turn.seconds)[len(turns) // 2]
        shares = [middle.stages.get(stage, 0.0) / middle.seconds for stage in STAGES]
        cells = " | ".join(f"{share:.0%}" for share in [*shares, 1 - sum(shares)])
        rate = count / median(turn.seconds for turn in turns)
        spread = f"{median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})"
        click.echo(f"| {name} | {rate:.0f} | {spread} | {same:.1%} | {cells} |")


if __name__ == "__main__":
    main()
