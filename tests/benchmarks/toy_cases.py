"""A plugin file whose case needs no model: rows that are steady, slow, and broken in every way."""

import os
import sys
import time
from pathlib import Path

from vlv_benchmarks.job import CasePlan, Job, Measured, Order, Planned
from vlv_benchmarks.record import Row, Workload
from vlv_benchmarks.turn import Quality
from vlv_core import hookimpl
from vlv_core.errors import DataError
from vlv_core.specs import BenchCaseSpec

SLEEPS_MS = {"steady": 20.0, "slow": 30.0}
CALLS = 4
COUNTER = "TOY_COUNTER"
"""environment variable: a file that gets a line for each turn that really ran"""


def plan(order: Order) -> CasePlan:
    """`order.rows` of the backends below; steady and slow if none is named."""
    names = order.rows or tuple(SLEEPS_MS)
    return CasePlan(
        workload=Workload(summary="Sleeping."),
        rows=tuple(
            Planned(
                row=Row(case="toy", backend=name, label=name, model="mini",
                        reference=name == "steady"),
                refusal="needs a GPU" if name == "refused" else "",
                timeout_s=3.0 if name == "hang" else 60.0,
            )
            for name in names
        ),
    )  # fmt: skip


def run(job: Job) -> Measured:
    if path := os.environ.get(COUNTER):
        with Path(path).open("a") as stream:
            stream.write(f"{job.row.backend} {job.turn}\n")
    name = job.row.backend
    print("rubbish that a library prints")
    if name == "crash":
        os.kill(os.getpid(), 11)
    if name == "hang":
        time.sleep(600)
    if name == "quit":
        print("the last words", file=sys.stderr)
        os._exit(3)
    if name == "raise":
        raise DataError("the pictures are gone")
    if name == "bug":
        raise KeyError("x")
    samples = [float("nan")] if name == "nan" else [_sleep(SLEEPS_MS[name]) for _ in range(CALLS)] \
        if name in SLEEPS_MS else [1.0]  # fmt: skip
    wrong = Quality(parity="failed", reason="says something else")
    return Measured(
        stages={"total": samples},
        counts={"images": len(samples)},
        output_sha256="ab",
        quality=wrong if name == "wrong" else Quality(parity="passed"),
    )


def _sleep(ms: float) -> float:
    started = time.perf_counter()
    time.sleep(ms / 1e3)
    return (time.perf_counter() - started) * 1e3


@hookimpl
def vlv_bench_cases() -> list[BenchCaseSpec]:
    return [
        BenchCaseSpec(
            name="toy", summary="sleeps", plan="toy_cases:plan", run="toy_cases:run", alone=True
        )
    ]
