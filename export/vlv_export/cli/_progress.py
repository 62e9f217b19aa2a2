"""How far an export is, on stderr: a bar on a terminal, else a line for each finished step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from vlv_export.pipeline import Watcher


class Shown(Watcher):
    """One export's."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._task: Any = None
        self._step = ""
        self._begun = 0
        """steps"""
        self._began = self._counted = time.monotonic()

    def begin(self, steps: Sequence[str]) -> None:
        if not self._console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("loading", total=len(steps), detail="")
        self._bar.start()

    def step(self, name: str, *, kept: bool) -> None:
        self._close()
        self._step = "" if kept else name
        if kept:
            click.echo(f"{name}: kept from before", err=True)
        if self._bar is not None:
            self._bar.update(self._task, description=name, detail="", completed=self._begun)
        self._begun += 1

    def tell(self, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, detail=text)

    def progress(self, what: str, done: int, total: int) -> None:
        """With its rate and the time that is left."""
        now = time.monotonic()
        if done == 0:
            self._counted = now
        rate = done / max(now - self._counted, 1e-9)
        left = (total - done) / rate if done else 0.0
        self.tell(f"{what}: {done}/{total}, {rate:.1f}/s, {left:.0f} s left")

    def end(self, *, done: bool) -> None:
        self._close("" if done else "stopped after ")
        self._step = ""
        if self._bar is not None:
            self._bar.stop()

    def _close(self, how: str = "") -> None:
        """The step that was being done has ended."""
        now = time.monotonic()
        if self._step:
            click.echo(f"{self._step}: {how}{now - self._began:.1f} s", err=True)
        self._began = now
