"""The queue before the model: requests that may share a batch do, and none waits long for it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from math import ceil
from threading import Condition, Event
from time import perf_counter

from vlv_core.serving.jobs import Job

logger = logging.getLogger(__name__)

_LONGEST_RETRY_S = 60


class Batcher:
    """Hands jobs to `run`, batch by batch, in the one thread that calls `work`.

    The oldest job decides when a batch starts, at the latest `max_wait_s` after it came or the
    model was free for it, and which jobs may join: those with equal options, oldest first. Where
    the last one ran alone and nobody came meanwhile, the next does not wait for company. `run`
    tells jobs of its own errors.
    """

    def __init__(
        self, run: Callable[[list[Job]], None], *, max_batch: int, max_wait_s: float
    ) -> None:
        self._run, self._max_batch, self._max_wait_s = run, max_batch, max_wait_s
        self._waiting: deque[Job] = deque()
        self._changed = Condition()
        self._closed = False
        self._batch_s, self._free, self._alone = 0.0, 0.0, False
        self.ended = Event()
        """set when `work` is over"""

    @property
    def depth(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    def submit(self, job: Job) -> None:
        """Queue a job; whoever calls bounds the queue."""
        with self._changed:
            job.submitted = perf_counter()
            self._waiting.append(job)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Take a job out of the queue, or have its batch do without it."""
        job.cancelled = True
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)

    def retry_after_s(self) -> int:
        """When a place should be free, from how long the last batch took."""
        batches = max(1, self.depth / self._max_batch)
        return min(_LONGEST_RETRY_S, max(1, ceil(batches * self._batch_s)))

    def close(self) -> None:
        """Have `work` finish what waits, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def work(self) -> None:
        """Run batches until the queue is closed and empty."""
        while batch := self._next():
            started = perf_counter()
            for job in batch:
                job.started, job.batch = started, len(batch)
            try:
                self._run(batch)
            except Exception:
                # Without this thread every later request would wait for ever.
                logger.exception("a batch of %d was lost", len(batch))
            self._free = perf_counter()
            self._batch_s = self._free - started
            self._alone = len(batch) == 1 and not self._waiting
        self.ended.set()

    def _next(self) -> list[Job]:
        """A batch, once it is full or its oldest job waited long enough; empty at the end."""
        with self._changed:
            while True:
                batch = self._mates()
                if not batch and self._closed:
                    return []
                left = self._left(batch)
                if left is not None and left <= 0:
                    for job in batch:
                        self._waiting.remove(job)
                    return batch
                self._changed.wait(left)

    def _mates(self) -> list[Job]:
        """The oldest job and those that may share its batch."""
        if not self._waiting:
            return []
        options = self._waiting[0].options
        mates = [job for job in self._waiting if job.options == options]
        return mates[: self._max_batch]

    def _left(self, batch: list[Job]) -> float | None:
        """Seconds until this batch starts; None where there is none yet."""
        if not batch:
            return None
        if len(batch) == self._max_batch or self._closed or self._alone:
            return 0
        # Those whose answers were in the last batch are about to ask again.
        return max(batch[0].submitted, self._free) + self._max_wait_s - perf_counter()
