"""How far a command is, on stderr: one line that changes on a terminal, elsewhere now and then."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from vlv_core.evaluation import Watcher

if TYPE_CHECKING:
    from vlv_core.strips import Row

_LINE_EVERY_S = 10.0
_CLEAR = "\r\x1b[2K"


class Told(Watcher):
    """Tells steps with rate and time left, and collects what is shown."""

    def __init__(self) -> None:
        self.shown: list[Row] = []
        self._what = ""
        self._started = self._last = self._told = time.monotonic()

    def show(self, row: Row) -> None:
        self.shown.append(row)

    def progress(self, what: str, done: int, total: int) -> None:
        """A step's first batch began where the step before it ended."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._started = what, self._last
        self._last = now
        seconds = max(now - self._started, 1e-9)
        left = (total - done) * seconds / max(done, 1)
        line = f"{what}: {done}/{total}, {done / seconds:.1f}/s"
        line += f", {left:.0f} s left" if done < total else f", took {seconds:.0f} s"
        # On a terminal the line is overwritten until its step ends.
        if sys.stderr.isatty():
            click.echo(f"{_CLEAR}{line}", err=True, nl=done >= total)
        elif done >= total or now - self._told > _LINE_EVERY_S:
            self._told = now
            click.echo(line, err=True)
