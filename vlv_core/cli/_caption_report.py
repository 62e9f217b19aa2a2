"""What `vlv caption` shows: captions on stdout; progress, failures and counts on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from vlv_core.jobs import Counts, Progress, Row

_NAMED_FAILURES = 20
"""failures told one by one, where a file holds them all"""

_LINE_EVERY_S = 10.0
"""seconds between lines of progress, where there is no terminal"""


class Report:
    """Shows a job as it goes. `out` is the command's --out."""

    def __init__(self, out: str | None, *, total: int) -> None:
        self.file = None if out in (None, "-") else out
        self.json = out == "-"
        self.total = total
        self._failures = 0
        self._told = time.monotonic()
        self._bar: Any = None
        # Lines of captions on the same terminal are progress enough.
        if sys.stderr.isatty() and (self.file or not sys.stdout.isatty()):
            self._bar = _bar()

    def __enter__(self) -> Report:
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task("captioning", total=self.total, rate="")
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()

    def rows(self, rows: Sequence[Row]) -> None:
        """Show a batch."""
        for row in rows:
            if self.json:
                click.echo(row.line(), nl=False)
            elif row.status == "ok" and not self.file:
                click.echo(f"{printable(row.path)}\t{printable(row.caption or '')}")
            if row.status == "failed":
                self._failure(row)

    def _failure(self, row: Row) -> None:
        self._failures += 1
        if self._failures <= _NAMED_FAILURES or not self.file:
            click.echo(f"failed: {printable(row.path)}: {printable(row.error or '')}", err=True)
        elif self._failures == _NAMED_FAILURES + 1:
            click.echo(f'more failures: see "failed" in {self.file}', err=True)

    def progress(self, progress: Progress) -> None:
        """Show how far the job is, on a terminal at once, elsewhere now and then."""
        counts = progress.counts
        done = counts.total - counts.remaining
        rate = f"{progress.rate:.1f}/s"
        if self._bar:
            self._bar.update(self._task, completed=done, rate=rate)
        elif time.monotonic() - self._told > _LINE_EVERY_S:
            self._told = time.monotonic()
            left = f"{progress.left_s:.0f} s left"
            click.echo(f"{done}/{counts.total}, {counts.failed} failed, {rate}, {left}", err=True)

    def close(self, counts: Counts, *, ignored: int) -> None:
        """The counts, which add up."""
        notes = [str(counts)]
        if ignored:
            notes.append(f"{ignored} other files ignored")
        if counts.skipped_failed:
            notes.append(f"{counts.skipped_failed} of the skipped had failed")
        if counts.sidecars_kept:
            notes.append(f"{counts.sidecars_kept} .txt files kept as they were")
        if self.file:
            notes.append(f"rows in {self.file}")
        click.echo("; ".join(notes), err=True)


def printable(text: str) -> str:
    """On one line and in any terminal: controls and undecodable bytes as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeLeft())
    # Redirecting stdout would put captions that go to a pipe onto the terminal.
    return Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
