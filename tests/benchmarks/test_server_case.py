"""The case of `vlv serve`, whole, on the bundled model: what it counts adds up."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlv_benchmarks import _reference
from vlv_benchmarks.cases import server
from vlv_benchmarks.child import perform
from vlv_benchmarks.inputs import write_pictures
from vlv_benchmarks.job import Job, Order
from vlv_benchmarks.planning import make_plan
from vlv_benchmarks.record import Row
from vlv_core.plugins import load_plugins

PICTURES = 3


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A short turn: rates of 4 and 16 a second."""
    order = Order(model="mini", plugins=load_plugins(), cases=("server",), rows=("torch-eager",),
                  quick=True, turns=1)  # fmt: skip
    plan, inputs = make_plan(order), tmp_path_factory.mktemp("inputs")
    write_pictures(inputs, order, count=PICTURES)
    row = Row(case="prepare", backend="x", label="x", model="mini")
    asked = {"model": "mini", "draws": False, "count": PICTURES, "pairs": []}
    _reference.run(Job(run="", row=row, inputs=str(inputs), settings=asked))
    settings = {**plan.rows[0].settings, "images": PICTURES, "requests": 6, "seconds": 0.5,
                "limit_ms": 20_000.0, "levels": 2}  # fmt: skip
    return Job(run=plan.runs["server"], row=plan.rows[0].row, settings=settings,
               inputs=str(inputs), scratch=str(tmp_path_factory.mktemp("scratch")))  # fmt: skip


def test_a_turn_counts_every_request(job: Job) -> None:
    turn = perform(job)
    assert turn.error is None and turn.quality.parity == "passed", turn.quality
    assert turn.counts == {"sent": 14, "answered": 14, "refused": 0, "failed": 0}
    assert len(turn.stages["total"]) == 6 and len(turn.discarded["total"]) == 4
    # so slow a limit is kept by any machine, so the knee is the last rate
    assert turn.measures["knee_requests_per_s"] == 16
    assert 0 < turn.measures["goodput_per_s"] < 40
    said = (Path(job.scratch) / "server").read_text()
    # the server's own log, a line a request, those that warmed it up among them
    assert said.count(" 200 ok: ") == 14 + 4
    assert turn.measures["callers_cpu_ms_per_request"] > 0


def test_a_server_that_does_not_start_says_why(job: Job) -> None:
    settings = {**job.settings, "model": "nosuch"}
    turn = perform(Job(run=job.run, row=job.row, settings=settings, scratch=job.scratch))
    assert turn.error is not None
    assert turn.error.startswith("vlv serve did not start: error: no model folder")


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="/proc is of Linux")
def test_the_processors_time_is_that_of_the_process() -> None:
    before, started = server._cpu_s(os.getpid()), time.process_time()
    while time.process_time() - started < 0.2:
        pass
    assert server._cpu_s(os.getpid()) - before == pytest.approx(0.2, abs=0.1)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as idle:
        assert server._cpu_s(idle.pid) < 5
