"""Running batches on a captioner, in the one thread that may use it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from vlv_core.generation import GenerationOptions, words
from vlv_core.generation.stopping import finish_reasons
from vlv_core.serving.jobs import Job

if TYPE_CHECKING:
    from vlv_core.captioner import Captioner

logger = logging.getLogger(__name__)


def _nothing(rows: int, encode_s: float) -> None:
    """Where nobody measures."""


class Engine:
    """Encodes and decodes batches; `on_batch` is told the rows and the encoder's seconds."""

    def __init__(
        self, captioner: Captioner, *, on_batch: Callable[[int, float], None] = _nothing
    ) -> None:
        self.captioner = captioner
        self.on_batch = on_batch
        edge = captioner.view.size
        # Also warms the model up, so that the first caller does not pay for it.
        blank = captioner.encode(np.zeros((1, edge, edge, 3), np.uint8))
        self.defaults = captioner.options(blank, None)
        self.prefix_length = int(blank.prefix.shape[1])
        captioner.caption(blank, options=replace(self.defaults, max_new_tokens=1))

    def options(self, *, temperature: float, top_p: float) -> GenerationOptions:
        """The model's own way of decoding, or sampling; equal ones may share a batch."""
        return replace(self.defaults, temperature=temperature, top_p=top_p)

    def limit(self, max_tokens: int | None) -> int:
        """Longest caption: what was asked, as far as the model holds it."""
        room = self.captioner.backend.limits.max_length - self.prefix_length
        return self.defaults.max_new_tokens if max_tokens is None else min(max_tokens, room)

    def run(self, jobs: Sequence[Job]) -> None:
        """Decode jobs of equal options. Never raises: each job gets its end, or the error.

        If a batch fails, its unfinished jobs are tried one by one, so that one cannot take the
        others with it.
        """
        try:
            self._run(jobs)
        except Exception as error:
            rest = [job for job in jobs if not job.over and not job.cancelled]
            if len(jobs) == 1:
                jobs[0].fail(error)
                return
            logger.warning("a batch of %d failed, now one by one: %r", len(jobs), error)
            for job in rest:
                job.restart()
                self.run([job])

    def _run(self, jobs: Sequence[Job]) -> None:
        captioner, backend = self.captioner, self.captioner.backend
        started = perf_counter()
        encoded = captioner.encode([job.view for job in jobs])
        self.on_batch(len(jobs), perf_counter() - started)
        # A job with a lower limit ends by itself, so that jobs of all limits share batches.
        most = max(job.limit for job in jobs)
        chosen = words(
            backend.start(encoded.prefix, encoded.prefix.shape[1] + most),
            eos=backend.eos,
            options=replace(jobs[0].options, max_new_tokens=most),
            keys=[job.key for job in jobs],
        )
        for word in chosen:
            job = jobs[word.row]
            if not job.over and not job.cancelled:
                if word.reason != "eos":
                    job.add(word.token, backend.words)
                if reason := word.reason or _reason(job):
                    job.finish(reason, backend.words)
            if all(job.over or job.cancelled for job in jobs):
                return


def _reason(job: Job) -> str:
    """Why a job ends at its own limit; "" below it. The same words as if it had been alone."""
    if len(job.tokens) < job.limit:
        return ""
    options = replace(job.options, max_new_tokens=job.limit)
    return str(finish_reasons(np.array([job.tokens]), eos=(), options=options)[0])
