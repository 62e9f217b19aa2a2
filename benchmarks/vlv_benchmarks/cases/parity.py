"""Quality alone: the levels of an artefact's proof, run again, with the time that they take."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vlv_benchmarks.backends import RUNTIME, backends, facts_of
from vlv_benchmarks.job import CasePlan, Job, Measured, Order
from vlv_benchmarks.record import Workload
from vlv_benchmarks.turn import TOTAL, Quality

if TYPE_CHECKING:
    from vlv_export.parity import Report

QUICK, FULL = ("L0", "L1"), ("L0", "L1", "L2", "L3", "L4")
WORST: dict[tuple[str, str], Callable[..., float]] = {
    ("L1", "relative L2"): max,
    ("L2", "mean KL (nats)"): max,
    ("L2", "best token the same"): min,
    ("L3", "captions the same, share"): min,
    ("L3", "tokens before they part, share"): min,
    ("L4", "difference, points"): max,
}
"""level and figure -> which of several outputs' is told; reports/parity.json has all of them"""


def plan(order: Order) -> CasePlan:
    levels = QUICK if order.quick else FULL
    rows = [
        each.planned(order, "parity", settings={"levels": list(levels)}, timeout_s=900)
        for each in backends(order)
        if each.name == RUNTIME
    ]
    return CasePlan(
        workload=Workload(
            summary=f"An artefact against its golden values: levels {', '.join(levels)}; a call is "
            "the whole check."
        ),
        rows=tuple(rows),
    )


def run(job: Job) -> Measured:
    """One check of all levels; a stage is a level. Figures are the worst of all outputs."""
    from vlv_export import parity

    started = time.perf_counter()
    report = parity.check(
        Path(job.settings["artefact"]),
        job.settings["variant"],
        job.settings["levels"],
        threads=job.row.threads,
    )
    spent = (time.perf_counter() - started) * 1e3
    levels = {each.level: [each.seconds * 1e3] for each in report.levels if each.seconds > 0}
    failures = "; ".join(report.failures())
    return Measured(
        stages={TOTAL: [spent], **levels},
        facts=facts_of(job),
        quality=Quality(
            parity="passed" if report.verdict == "passed" else "failed",
            reason=failures,
            figures=figures_of(report),
        ),
    )


def figures_of(report: "Report") -> dict[str, float]:
    """Of the levels that ran, those that a reader compares variants by."""
    found = {}
    for (name, figure), worst in WORST.items():
        values = [
            check.value
            for level in report.levels
            if level.level == name
            for check in level.checks
            if check.figure == figure
        ]
        if values:
            found[f"{name} {figure}"] = float(worst(values))
    return found
