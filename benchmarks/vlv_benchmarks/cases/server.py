"""`vlv serve` under requests that come by chance: how many a second it answers in time."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vlv_benchmarks.backends import COMPILED, backends, facts_of
from vlv_benchmarks.child import peak_memory_mb
from vlv_benchmarks.job import CasePlan, Job, Measured, Order
from vlv_benchmarks.load import Offered, bodies, offer
from vlv_benchmarks.quality import ROUNDED, reference
from vlv_benchmarks.record import Workload
from vlv_benchmarks.turn import TOTAL, Quality
from vlv_core.errors import VlvError

LIMIT_MS = 500.0
"""an answer is in time within this"""
FIRST, GROWTH, LEVELS = 4.0, 2.0, 8
"""requests a second that the sweep begins with, what each level multiplies them by, and the most
levels, so that a turn ends"""
COMMAND = "from vlv_core.cli import main; main()"
SAYS = "serving "


def plan(order: Order) -> CasePlan:
    images = order.size(8, 64)
    settings = {"images": images, "requests": order.size(24, 200), "seconds": order.size(2, 10),
                "limit_ms": LIMIT_MS}  # fmt: skip
    rows = [
        each.planned(order, "server", settings=settings, timeout_s=600)
        for each in backends(order)
        if each.name != COMPILED
    ]
    return CasePlan(
        workload=Workload(
            summary=f"vlv serve on loopback; Poisson arrivals. Latencies are at {FIRST:g} requests "
            "a second, the same for all rows; then the rate doubles until fewer than 99 % are "
            f"answered within {LIMIT_MS:g} ms: the knee is the highest rate that was borne.",
            images=images,
            options={"limit_ms": LIMIT_MS},
        ),
        rows=tuple(rows),
    )


def run(job: Job) -> Measured:
    """Samples are the requests of the first rate; the knee is the highest that was borne."""
    settings = job.settings
    with served(job) as (url, model, process):
        asked = bodies(model, job.pictures(settings["images"]))
        warm = asyncio.run(offer(url, asked, per_s=FIRST, count=4, seed=job.seed, timeout_s=60))
        levels = list(_sweep(url, asked, job))
        memory = peak_memory_mb(process.pid)
    limit = settings["limit_ms"]
    borne = [each for each in levels if each.borne(limit)]
    first = levels[0]
    said = {each.picture: each.text for level in [warm, *levels] for each in level.answers
            if each.status == 200}  # fmt: skip
    return Measured(
        stages={TOTAL: [each.ms for each in first.answers]},
        discarded={TOTAL: [each.ms for each in warm.answers]},
        elapsed_ms=first.seconds * 1e3,
        measures={
            "knee_requests_per_s": borne[-1].per_s if borne else 0.0,
            "goodput_per_s": max(each.goodput(limit) for each in levels),
            "refused_share": _share(levels[-1], 429),
        },
        facts=facts_of(job),
        peak_memory_mb=memory,
        quality=_quality(job, said),
    )


@contextmanager
def served(job: Job) -> Iterator[tuple[str, str, subprocess.Popen[str]]]:
    """Its address, its model's name, and its process, which is stopped in the end."""
    settings = job.settings
    command = [sys.executable, "-c", COMMAND, "serve", "--port", "0", "--device", "cpu"]
    model = str(settings.get("artefact") or settings["model"])
    command += ["--model", model, "--threads", str(job.row.threads)]
    if "variant" in settings:
        command += ["--dtype", settings["variant"]]
    with (Path(job.scratch) / "server").open("w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            if not line.startswith(SAYS):
                said.seek(0)
                raise VlvError(f"vlv serve did not start: {said.readline().strip()}")
            name, _, url = line.removeprefix(SAYS).rpartition(" at ")
            yield url, name, process
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _sweep(url: str, asked: list[bytes], job: Job) -> Iterator[Offered]:
    """Rates, each the last one's double, until one is not borne."""
    for level in range(LEVELS):
        rate = FIRST * GROWTH**level
        count = max(job.settings["requests"], int(rate * job.settings["seconds"]))
        offered = asyncio.run(offer(
            url, asked, per_s=rate, count=count, seed=job.seed + 1000 * job.turn + level,
            timeout_s=30,
        ))  # fmt: skip
        yield offered
        if not offered.borne(job.settings["limit_ms"]):
            return


def _share(offered: Offered, status: int) -> float:
    return sum(each.status == status for each in offered.answers) / len(offered.answers)


def _quality(job: Job, said: dict[int, str]) -> Quality:
    """Captions as they came over HTTP, against torch's."""
    wanted = reference(job.reference).get("captions", [])
    if not said or not wanted:
        return Quality(parity="failed", reason="no answer could be compared")
    same = sum(text == wanted[at] for at, text in said.items()) / len(said)
    due = 0.95 if job.row.dtype == "fp32" else ROUNDED
    passed = same >= due and job.settings.get("proof", "passed") == "passed"
    return Quality(
        parity="passed" if passed else "failed",
        reason="" if passed else f"captions the same {same:.0%}, due {due:.0%}",
        figures={"captions the same": same},
    )
