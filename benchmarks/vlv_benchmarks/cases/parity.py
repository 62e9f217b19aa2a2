"""Quality alone: the levels of an artefact's proof, run again, with the time that they take."""

import time
from pathlib import Path

from vlv_benchmarks.backends import RUNTIME, backends, facts_of
from vlv_benchmarks.job import CasePlan, Job, Measured, Order
from vlv_benchmarks.record import Workload
from vlv_benchmarks.turn import TOTAL, Quality

QUICK, FULL = ("L0", "L1"), ("L0", "L1", "L2", "L3", "L4")


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
    """One check; its judged figures, worst of each level."""
    from vlv_export import parity

    started = time.perf_counter()
    report = parity.check(
        Path(job.settings["artefact"]),
        job.settings["variant"],
        job.settings["levels"],
        threads=job.row.threads,
    )
    spent = (time.perf_counter() - started) * 1e3
    figures = {
        f"{level.level} {check.part} {check.output}: {check.figure}": float(check.value)
        for level in report.levels
        for check in level.checks
        if check.judged and check.value
    }
    failures = "; ".join(report.failures())
    return Measured(
        stages={TOTAL: [spent]},
        facts=facts_of(job),
        quality=Quality(
            parity="passed" if report.verdict == "passed" else "failed",
            reason=failures,
            figures=figures,
        ),
    )
