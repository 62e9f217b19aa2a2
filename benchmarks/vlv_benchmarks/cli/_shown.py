"""How a run is shown while it goes on: a line a turn, with what is left."""

import time

import click

from vlv_benchmarks.job import Planned
from vlv_benchmarks.planning import Plan
from vlv_benchmarks.runner import Watcher
from vlv_benchmarks.text import told
from vlv_benchmarks.turn import TOTAL, Turn


class Shown(Watcher):
    """Lines on stderr: turn, row, median call, turns a minute and time left."""

    def __init__(self) -> None:
        self.total = self.done = self.before = 0
        self.started = time.monotonic()

    def say(self, line: str) -> None:
        click.echo(line, err=True)

    def begin(self, total: int, done: int) -> None:
        self.total, self.done, self.before = total, done, done
        self.started = time.monotonic()
        if done:
            self.say(f"{done} of {total} turns were run before")

    def turn(self, planned: Planned, turn: Turn, seconds: float) -> None:
        self.done += 1
        spent = time.monotonic() - self.started
        each = spent / (self.done - self.before)
        left = each * (self.total - self.done)
        self.say(
            f"{self.done}/{self.total} {told(planned.row)} turn {turn.turn + 1}: {_came_to(turn)}; "
            f"{seconds:.1f} s, {60 / each:.0f} turns/min, {left:.0f} s left"
        )


def show_plan(plan: Plan, *, turns: int) -> None:
    """A dry run: every row, and why some cannot run."""
    for each in plan.rows:
        state = f"not run: {each.refusal}" if each.refusal else f"{turns} turns"
        click.echo(f"{told(each.row)}: {state}")
    ready = len(plan.runnable)
    click.echo(f"{len(plan.rows)} rows: {ready} to run, {len(plan.rows) - ready} not run")


def _came_to(turn: Turn) -> str:
    if turn.error:
        return f"failed: {turn.error}"
    if turn.quality.parity == "failed":
        return f"parity failed: {turn.quality.reason}"
    samples = sorted(turn.stages[TOTAL])
    return f"{samples[len(samples) // 2]:.1f} ms a call"
