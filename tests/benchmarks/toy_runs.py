"""Runs of the toy case, without what a machine's own rates would add to them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlv_benchmarks import preparing, runner
from vlv_benchmarks.job import Order
from vlv_benchmarks.planning import make_plan
from vlv_benchmarks.record import Ceiling
from vlv_benchmarks.runner import Outcome, Watcher
from vlv_benchmarks.turn import Rates
from vlv_core.plugins import load_plugins

TOYS = Path(__file__).with_name("toy_cases.py")
ARGV = ("vlv-bench", "run", "toy")


def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that never changes, and whose rates are known."""
    ceiling = Ceiling(gflops={"float32": 100.0}, gbps=10.0, measured="told")
    monkeypatch.setattr(preparing, "_ceiling", lambda *_: ceiling)
    monkeypatch.setattr(runner, "probe", lambda: Rates(gflops=100.0, gbps=10.0))
    monkeypatch.setattr(runner, "PAUSE_S", 0.0)


def order(*rows: str, turns: int = 1, **options: Any) -> Order:
    plugins = load_plugins(files=[TOYS])
    return Order(
        model="mini", plugins=plugins, cases=("toy",), rows=rows, turns=turns,
        plugin_files=(TOYS,), **options,
    )  # fmt: skip


def measure(
    asked: Order,
    out: Path,
    *,
    watcher: Watcher | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Outcome:
    plan = make_plan(asked)
    return runner.run(
        asked, plan, out, argv=ARGV, watcher=watcher or Watcher(), stopped=stopped
    )  # fmt: skip
