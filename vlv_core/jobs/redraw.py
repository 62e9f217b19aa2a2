"""Redrawing many pictures: a strip each of original, reconstruction, and what its caption draws."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from vlv_core.errors import UsageError, VlvError
from vlv_core.files import write_atomically
from vlv_core.jobs.decoding import Decoded, decode
from vlv_core.jobs.inputs import Input
from vlv_core.jobs.model import raise_if_usage, reason_of
from vlv_core.jobs.progress import Counts, Progress
from vlv_core.randomness import key_of
from vlv_core.strips import Line, Row, png, strip, whole_edge

TITLES = ("original", "from the embedding", "from the caption")

_STEM = 60
"""characters of a picture's name in its strip's; with four bytes each a name still fits"""


@dataclass(frozen=True, kw_only=True)
class RedrawOptions:
    """How to draw."""

    steps: int = 25
    """denoising steps"""
    guidance: float = 3.0
    seed: int = 0
    """of the noise; each picture's own is keyed by its path"""
    batch: int = 16
    """pictures at once"""

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, but must be at least 1")


class Redrawn(NamedTuple):
    """What became of one input: a strip and its caption, or an error."""

    path: str
    file: Path | None = None
    caption: str | None = None
    error: str | None = None


def redraw_job(
    captioner: Any,
    inputs: Sequence[Input],
    *,
    out: Path,
    options: RedrawOptions,
    on_done: Callable[[Redrawn], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Counts:
    """Write a strip into the folder `out` for each input that can be read.

    Inputs that lie in `out` are skipped: they are strips of an earlier run, or would be mistaken
    for such. Raises UsageError if nothing else is left or `out` is no folder, VlvError if a strip
    cannot be written.
    """
    todo = _outside(inputs, out)
    counts = Counts(total=len(inputs), skipped=len(inputs) - len(todo))
    started = time.monotonic()
    for start in range(0, len(todo), options.batch):
        batch = [decode(entry, captioner.view) for entry in todo[start : start + options.batch]]
        for result in _finish(captioner, batch, out, options):
            counts.ok += result.error is None
            counts.failed += result.error is not None
            if on_done:
                on_done(result)
        if on_progress:
            on_progress(Progress(counts, time.monotonic() - started))
    return counts


def strip_name(key: str) -> str:
    """The file name of an input's strip: one for each key, whatever else is in the job."""
    return f"{PurePosixPath(key).stem[:_STEM]}-{key_of(key):016x}.png"


def _outside(inputs: Sequence[Input], out: Path) -> list[Input]:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{str(out)!r} cannot be a folder: {error.strerror or error}") from None
    # Resolved, so that links into the folder are caught too.
    inside = out.resolve()
    todo = [entry for entry in inputs if Path(entry.path).resolve().parent != inside]
    if not todo:
        raise UsageError(
            f"all {len(inputs)} pictures lie in the output folder {str(out)!r}",
            hint="choose another folder by -o",
        )
    return todo


def _finish(
    captioner: Any, batch: Sequence[Decoded], out: Path, options: RedrawOptions
) -> Iterator[Redrawn]:
    """Results of a batch, in order."""
    # Bad pictures never reach the model, and keep their place in the order.
    good = [picture for picture in batch if picture.view is not None]
    drawn = iter(_drawn(captioner, good, options))
    for picture in batch:
        key = picture.input.key
        row = picture.error if picture.view is None else next(drawn)
        if not isinstance(row, Row):
            yield Redrawn(key, error=row)
            continue
        file = out / strip_name(key)
        _write(file, row)
        yield Redrawn(key, file, row.lines[0].text)


def _drawn(captioner: Any, batch: Sequence[Decoded], options: RedrawOptions) -> Sequence[Row | str]:
    """A row of three pictures for each, or why there is none; a failing one fails alone."""
    if not batch:
        return []
    try:
        return _draw(captioner, batch, options)
    except Exception as error:
        raise_if_usage(error)
        if len(batch) == 1:
            return [f"the model failed: {reason_of(error)}"]
        return [row for picture in batch for row in _drawn(captioner, [picture], options)]


def _draw(captioner: Any, batch: Sequence[Decoded], options: RedrawOptions) -> list[Row]:
    views = np.stack([picture.view for picture in batch if picture.view is not None])
    encoded = captioner.encode(views)
    texts = [said.text for said in captioner.caption(encoded, options=None)]
    # Both start from the same noise: what differs is what the model was told, nothing else.
    both = [
        captioner.reconstruct(
            source,
            seed=options.seed,
            steps=options.steps,
            guidance=options.guidance,
            keys=[key_of(picture.input.key) for picture in batch],
        )
        for source in (encoded, captioner.from_text(texts))
    ]
    rows = zip(views, *both, texts, strict=True)
    return [Row(tuple(pictures), [Line(text)]) for *pictures, text in rows]


def _write(file: Path, row: Row) -> None:
    sheet = strip([row], titles=TITLES, edge=whole_edge(len(row.pictures[0])), below=True)
    try:
        write_atomically(file, png(sheet))
    except OSError as error:
        raise VlvError(
            f"cannot write {str(file)!r}: {error.strerror or error}",
            hint="the strips that are written are whole; mend the cause and run again",
        ) from error
