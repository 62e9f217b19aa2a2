"""The queue: who shares a batch, how long anybody waits, and who leaves."""

import threading
from collections.abc import Iterator
from queue import Queue
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from tests.core.serving.toy_server import PATIENCE_S, until
from vlv_core.generation import GenerationOptions
from vlv_core.serving.batching import Batcher
from vlv_core.serving.jobs import Job

GREEDY = GenerationOptions(max_new_tokens=5)
SAMPLED = GenerationOptions(max_new_tokens=5, temperature=1.0)


def job(options: GenerationOptions = GREEDY) -> Job:
    view = np.zeros((1, 1, 3), np.uint8)
    return Job(view=view, options=options, limit=5, emit=lambda event: None)


class Recorder:
    """A model that notes its batches and goes on when it is let."""

    def __init__(self) -> None:
        self.begun: Queue[list[Job]] = Queue()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, jobs: list[Job]) -> None:
        self.begun.put(jobs)
        assert self.gate.wait(PATIENCE_S)

    def batch(self) -> list[Job]:
        return self.begun.get(timeout=PATIENCE_S)


@pytest.fixture
def model() -> Recorder:
    return Recorder()


def working(batcher: Batcher) -> Batcher:
    """With a thread that works for it."""
    threading.Thread(target=batcher.work, daemon=True).start()
    return batcher


@pytest.fixture
def make(model: Recorder) -> Iterator[Any]:
    made = []

    def batcher(**options: Any) -> Batcher:
        made.append(working(Batcher(model, **{"max_batch": 4, "max_wait_s": 0.0, **options})))
        return made[-1]

    yield batcher
    model.gate.set()
    for each in made:
        each.close()
        assert each.ended.wait(PATIENCE_S)


def held(batcher: Batcher, model: Recorder) -> None:
    """Keep the model busy, so that what is submitted next is waiting together."""
    model.gate.clear()
    batcher.submit(job())
    assert len(model.batch()) == 1


def test_a_full_batch_does_not_wait(make: Any, model: Recorder) -> None:
    batcher = make(max_wait_s=1000.0)
    jobs = [job() for _ in range(4)]
    for each in jobs:
        batcher.submit(each)
    assert model.batch() == jobs
    assert all(each.batch == 4 and each.started >= each.submitted for each in jobs)


def test_a_lone_job_waits_no_longer_than_it_must(make: Any, model: Recorder) -> None:
    batcher = make(max_wait_s=0.05)
    alone = job()
    batcher.submit(alone)
    assert model.batch() == [alone]
    assert alone.started is not None and alone.started - alone.submitted >= 0.05


def test_a_lone_caller_waits_once(make: Any, model: Recorder) -> None:
    """Nobody came while its first job ran: nobody is waited for with the second."""
    batcher = make(max_wait_s=1.0)
    first, second = job(), job()
    batcher.submit(first)
    assert model.batch() == [first]
    until(lambda: batcher._alone)
    batcher.submit(second)
    assert model.batch() == [second]
    assert second.started is not None and second.started - second.submitted < 1.0


def test_jobs_that_come_within_the_wait_share_a_batch(make: Any, model: Recorder) -> None:
    batcher = make(max_wait_s=0.2)
    jobs = [job(), job(), job()]
    for each in jobs:
        batcher.submit(each)
    assert model.batch() == jobs


def test_while_the_model_is_busy_a_batch_gathers(make: Any, model: Recorder) -> None:
    batcher = make()
    held(batcher, model)
    jobs = [job() for _ in range(6)]
    for each in jobs:
        batcher.submit(each)
    assert batcher.depth == 6
    model.gate.set()
    assert model.batch() == jobs[:4] and model.batch() == jobs[4:]
    assert batcher.depth == 0


def test_only_equal_options_share_a_batch_and_the_oldest_goes_first(
    make: Any, model: Recorder
) -> None:
    batcher = make()
    held(batcher, model)
    jobs = [job(SAMPLED), job(), job(SAMPLED), job(), job(SAMPLED)]
    for each in jobs:
        batcher.submit(each)
    model.gate.set()
    assert model.batch() == [jobs[0], jobs[2], jobs[4]]
    assert model.batch() == [jobs[1], jobs[3]]


def test_who_leaves_frees_the_place(make: Any, model: Recorder) -> None:
    batcher = make()
    held(batcher, model)
    gone, stays = job(), job()
    batcher.submit(gone)
    batcher.submit(stays)
    batcher.cancel(gone)
    assert gone.cancelled and batcher.depth == 1
    model.gate.set()
    assert model.batch() == [stays]
    batcher.cancel(stays)
    assert stays.cancelled


def test_who_waited_for_the_model_also_waits_for_those_it_just_answered(
    make: Any, model: Recorder
) -> None:
    batcher = make(max_wait_s=0.3)
    held(batcher, model)
    early, again, rest = job(), job(), threading.Event()
    batcher.submit(early)
    rest.wait(0.35)
    model.gate.set()
    rest.wait(0.05)
    batcher.submit(again)
    assert model.batch() == [early, again]


def test_closing_finishes_what_waits(make: Any, model: Recorder) -> None:
    batcher = make(max_wait_s=1000.0)
    alone = job()
    batcher.submit(alone)
    batcher.close()
    assert model.batch() == [alone] and batcher.ended.wait(PATIENCE_S)


def test_an_error_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    answered = threading.Event()

    def model(jobs: list[Job]) -> None:
        if jobs[0].options == SAMPLED:
            raise RuntimeError("planted")
        answered.set()

    batcher = working(Batcher(model, max_batch=1, max_wait_s=0))
    batcher.submit(job(SAMPLED))
    batcher.submit(job())
    assert answered.wait(PATIENCE_S)
    batcher.close()
    assert batcher.ended.wait(PATIENCE_S)
    assert "a batch of 1 was lost" in caplog.text and "planted" in caplog.text


def test_when_to_come_again(make: Any, model: Recorder) -> None:
    batcher = make(max_batch=1)
    assert batcher.retry_after_s() == 1
    held(batcher, model)
    for _ in range(3):
        batcher.submit(job())
    # a batch took 25 s, and three are ahead: more than a minute is never asked for
    batcher._batch_s = 15.1
    assert batcher.retry_after_s() == 46
    batcher._batch_s = 25
    assert batcher.retry_after_s() == 60
    started = perf_counter()
    model.gate.set()
    until(lambda: batcher.depth == 0)
    assert perf_counter() - started < PATIENCE_S
