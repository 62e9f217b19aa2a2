"""Captioning many pictures: none twice, none lost, and no bad one in the way of the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from errno import EDQUOT, ENOSPC
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from vlv_core.errors import UsageError
from vlv_core.jobs.decoding import Decoded, decode
from vlv_core.jobs.inputs import Input
from vlv_core.jobs.journal import Journal, disk_error
from vlv_core.jobs.model import Answer, Captions, Model
from vlv_core.jobs.progress import Counts, Progress
from vlv_core.jobs.rows import Row, describe
from vlv_core.jobs.sidecars import Sidecars
from vlv_core.prefetch import prefetch

if TYPE_CHECKING:
    from vlv_core.generation import GenerationOptions


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """How a job treats its inputs and its output."""

    batch: int = 16
    """pictures given to the model at once"""
    retry_failed: bool = False
    """try again what failed in an earlier run"""
    overwrite: bool = False
    """start anew: discard the output file, replace sidecars"""
    sidecar: bool = False
    """write a .txt beside each picture; without an output file, one that exists means done"""
    workers: int = 2
    """threads that decode ahead of the model, a batch each"""

    def __post_init__(self) -> None:
        for name in ("batch", "workers"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, but must be at least 1")


def caption_job(
    captioner: Captions,
    inputs: Sequence[Input],
    *,
    out: Path | None = None,
    options: GenerationOptions | None = None,
    job: JobOptions | None = None,
    on_rows: Callable[[Sequence[Row]], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> Counts:
    """Caption every input once, in order, and return what became of them.

    Rows go to `out`, which a later run continues, and to `on_rows`, batch by batch. When `stopped`
    answers true, the batch in flight is finished and the rest is left: `Counts.remaining`.

    Raises UsageError if `out` cannot be continued, VlvError if the disk is full or the model fails
    on everything; finished rows are kept in each case.
    """
    job = job or JobOptions()
    started = time.monotonic()
    with _journal(captioner, out, options, job) or nullcontext() as journal:
        work = _Work(Model(captioner, options), inputs, job=job, journal=journal)
        with closing(_decoded(work.todo(), captioner, job)) as batches:
            for batch in batches:
                rows = work.finish(batch)
                if on_rows:
                    on_rows(rows)
                if on_progress:
                    on_progress(Progress(work.counts, time.monotonic() - started))
                if stopped and stopped():
                    break
    return work.counts


def _journal(
    captioner: Captions, out: Path | None, options: GenerationOptions | None, job: JobOptions
) -> Journal | None:
    if out is None:
        return None
    name = captioner.name
    return Journal(out, model=name, options=describe(options), overwrite=job.overwrite)


def _decoded(
    todo: Sequence[Input], captioner: Captions, job: JobOptions
) -> Generator[list[Decoded], None, None]:
    """Batches of decoded inputs in order, read ahead by threads; memory is bounded by batches."""

    def build(number: int, rows: range) -> list[Decoded]:
        return [decode(todo[row], captioner.view) for row in rows]

    starts = range(0, len(todo), job.batch)
    spans = (range(start, min(start + job.batch, len(todo))) for start in starts)
    return prefetch(build, enumerate(spans), workers=job.workers)


class _Work:
    """What is done, and what a batch of decoded inputs becomes."""

    def __init__(
        self, model: Model, inputs: Sequence[Input], *, job: JobOptions, journal: Journal | None
    ) -> None:
        self.model, self.inputs, self.job, self.journal = model, inputs, job, journal
        self.counts = Counts(total=len(inputs))
        self.sidecars = Sidecars(inputs, overwrite=job.overwrite) if job.sidecar else None

    def todo(self) -> list[Input]:
        """The inputs that no earlier run finished."""
        done = self._done()
        self.counts.skipped = len(done)
        self.counts.skipped_failed = sum(not ok for ok in done.values())
        return [entry for entry in self.inputs if entry.key not in done]

    def _done(self) -> dict[str, bool]:
        if self.journal:
            if self.job.retry_failed:
                self.journal.drop_failed({entry.key for entry in self.inputs})
            self._add_missing_sidecars()
            done = self.journal.done
            return {entry.key: done[entry.key] for entry in self.inputs if entry.key in done}
        if self.sidecars and not self.job.overwrite:
            return {entry.key: True for entry in self.inputs if self.sidecars.exists(entry)}
        return {}

    def _add_missing_sidecars(self) -> None:
        """For pictures that an earlier run captioned without `sidecar`."""
        if not self.sidecars or not self.journal:
            return
        entries = {entry.key: entry for entry in self.inputs}
        for row in self.journal.rows():
            entry = entries.get(row.path)
            if entry and row.status == "ok" and not self.sidecars.exists(entry):
                self._put_beside(entry, row)

    def finish(self, batch: Sequence[Decoded]) -> list[Row]:
        """Caption a batch and write it down, sidecars first: a row means that all is done."""
        good = [picture for picture in batch if picture.view is not None]
        answers = iter(self.model.answer(good))
        rows = []
        for picture in batch:
            answer = next(answers) if picture.view is not None else None
            rows.append(self._put_beside(picture.input, self._row(picture, answer)))
        if self.journal:
            self.journal.append(rows)
        self.counts.ok += sum(row.status == "ok" for row in rows)
        self.counts.failed += sum(row.status == "failed" for row in rows)
        return rows

    def _row(self, picture: Decoded, answer: Answer | None) -> Row:
        row = Row(
            path=picture.input.key,
            status="failed",
            error=picture.error,
            model=self.model.captioner.name,
            options=describe(self.model.options),
            sha256=picture.sha256,
        )
        if answer is None:
            return row
        row = replace(row, seconds=round(answer.seconds, 4), error=answer.error)
        if answer.caption is None:
            return row
        return replace(
            row,
            status="ok",
            caption=answer.caption.text,
            tokens=tuple(answer.caption.tokens),
            finish_reason=answer.caption.finish_reason,
            # JSON knows no infinity and no NaN.
            logprob=answer.caption.logprob if isfinite(answer.caption.logprob) else None,
        )

    def _put_beside(self, entry: Input, row: Row) -> Row:
        """Write the sidecar of an ok row; the row comes back as failed if that cannot be done."""
        if not self.sidecars or row.caption is None:
            return row
        try:
            self.sidecars.write(entry, row.caption)
        except OSError as error:
            if error.errno in (ENOSPC, EDQUOT):
                kept = len(self.journal.done) if self.journal else self.counts.ok
                raise disk_error(error, self.sidecars.path(entry), kept=kept) from error
            reason = f"cannot write its .txt: {error.strerror or error}"
            return replace(row, status="failed", error=reason)
        self.counts.sidecars_kept = self.sidecars.kept
        return row
