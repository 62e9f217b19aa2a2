"""`vlv serve` under requests that come by chance: how many a second it answers in time."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vlv_benchmarks.backends import COMPILED, backends, facts_of
from vlv_benchmarks.child import peak_memory_mb
from vlv_benchmarks.job import CasePlan, Job, Measured, Order
from vlv_benchmarks.load import Offered, bodies, offer, sweep
from vlv_benchmarks.quality import ROUNDED, reference
from vlv_benchmarks.record import Workload
from vlv_benchmarks.turn import TOTAL, Quality
from vlv_core.errors import VlvError

LIMIT_MS = 500.0
"""an answer is in time within this"""
FIRST, LEVELS = 4.0, 8
"""requests a second that the sweep begins with, and its most rates, so that a turn ends"""
PATIENCE_S = 10.0
"""for an answer; a caller that waited so long hangs up"""
COMMAND = "from vlv_core.cli import main; main()"
SAYS = "serving "


def plan(order: Order) -> CasePlan:
    images, requests = order.size(8, 64), order.size(16, 32)
    settings = {"images": images, "requests": requests, "seconds": 2.5,
                "limit_ms": LIMIT_MS, "levels": LEVELS}  # fmt: skip
    rows = [
        each.planned(order, "server", settings=settings, timeout_s=300)
        for each in backends(order)
        if each.name != COMPILED
    ]
    return CasePlan(
        workload=Workload(
            summary="vlv serve on loopback; Poisson arrivals, from callers on the same cores. "
            f"Latencies are at {FIRST:g} requests a second, the same for all rows; then the rate "
            f"grows until fewer than 99 % are answered within {LIMIT_MS:g} ms, and is narrowed: "
            "the knee is the highest rate that was borne. Goodput is the most a second that were "
            "answered in time at any rate; the processor's time is a request's at that rate. A "
            "turn takes about half a minute.",
            images=images,
            options={"limit_ms": LIMIT_MS},
        ),
        rows=tuple(rows),
    )


def run(job: Job) -> Measured:
    """Samples are the requests of the first rate; the knee is the highest that was borne."""
    settings, spent = job.settings, dict[float, tuple[float, float]]()
    limit = settings["limit_ms"]
    with served(job) as (url, model, process):
        asked = bodies(model, job.pictures(settings["images"]))
        warm = asyncio.run(offer(url, asked, per_s=FIRST, count=4, seed=job.seed, timeout_s=60))

        def level(rate: float) -> Offered:
            before = _cpu_s(process.pid), time.process_time()
            offered = _offered(url, asked, job, rate)
            after = _cpu_s(process.pid), time.process_time()
            spent[rate] = after[0] - before[0], after[1] - before[1]
            return offered

        levels = sweep(level, first=FIRST, limit_ms=limit, most=settings["levels"])
        memory = peak_memory_mb(process.pid)
    first, best = levels[0], max(levels, key=lambda each: each.goodput(limit))
    server_s, callers_s = spent[best.per_s]
    return Measured(
        stages={TOTAL: [each.ms for each in first.answers]},
        discarded={TOTAL: [each.ms for each in warm.answers]},
        elapsed_ms=first.seconds * 1e3,
        counts=_counts(levels),
        measures={
            "knee_requests_per_s": max((x.per_s for x in levels if x.borne(limit)), default=0.0),
            "goodput_per_s": best.goodput(limit),
            "server_cpu_ms_per_request": 1e3 * server_s / len(best.answers),
            "callers_cpu_ms_per_request": 1e3 * callers_s / len(best.answers),
            "failed_requests": _counts(levels)["failed"],
        },
        facts=facts_of(job),
        peak_memory_mb=memory,
        quality=_quality(job, [warm, *levels]),
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


def _offered(url: str, asked: list[bytes], job: Job, rate: float) -> Offered:
    count = max(job.settings["requests"], int(rate * job.settings["seconds"]))
    seed = job.seed + 1000 * job.turn + int(rate)
    return asyncio.run(offer(url, asked, per_s=rate, count=count, seed=seed, timeout_s=PATIENCE_S))


def _counts(levels: list[Offered]) -> dict[str, float]:
    """Of all rates."""
    each = [level.counts() for level in levels]
    return {name: float(sum(counts[name] for counts in each)) for name in each[0]}


def _cpu_s(pid: int) -> float:
    """The processor's time of all threads that a process had; 0 where Linux does not tell."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.is_file():
        return 0.0
    # The name, in brackets, may hold spaces; user and system time are the 14th and 15th field.
    user, system = stat.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _quality(job: Job, levels: list[Offered]) -> Quality:
    """Captions as they came over HTTP, the last of each picture, against torch's."""
    said = {each.picture: each.text for level in levels for each in level.answers
            if each.status == 200}  # fmt: skip
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
