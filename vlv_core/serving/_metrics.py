"""What `/metrics` tells: Prometheus metrics of one server, in a registry of their own."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from vlv_core.serving.jobs import Finished, Job

_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counts and times. Safe from several threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "vlv_requests",
            "Chat completion requests by how they ended.",
            ["outcome", "stream"],
            registry=self.registry,
        )
        self.images = self._counter("vlv_images", "Pictures prepared for the model.")
        self.tokens = self._counter("vlv_tokens", "Caption tokens of finished requests.")
        self.depth = Gauge(
            "vlv_queue_depth", "Requests being read or waiting.", registry=self.registry
        )
        self.rows = Histogram(
            "vlv_batch_size", "Pictures a batch.", registry=self.registry, buckets=_ROWS
        )
        self.prepare = self._seconds("prepare", "Reading JSON, base64 and picture, in the pool.")
        self.queue = self._seconds("queue", "Waiting for the model.")
        self.encode = self._seconds("encode", "The encoder, a batch.")
        self.first = self._seconds("first_token", "From a request's headers to its first word.")
        self.total = self._seconds("request", "From a request's headers to its last word.")

    def watch_depth(self, waiting: Callable[[], int]) -> None:
        """Ask `waiting` whenever the metrics are read."""
        self.depth.set_function(lambda: float(waiting()))

    def on_batch(self, rows: int, encode_s: float) -> None:
        """A batch was encoded."""
        self.rows.observe(rows)
        self.encode.observe(encode_s)

    def on_end(self, outcome: str, *, stream: bool) -> None:
        """A request ended, however it did."""
        self.requests.labels(outcome=outcome, stream=str(stream).lower()).inc()

    def on_finished(self, job: Job, finished: Finished, *, arrived: float) -> None:
        """A request got its caption. `arrived` is of `perf_counter`, like the job's times."""
        self.tokens.inc(finished.tokens)
        if job.started is not None and job.first is not None:
            self.queue.observe(job.started - job.submitted)
            self.first.observe(job.first - arrived)
        self.total.observe(perf_counter() - arrived)

    def text(self) -> bytes:
        """Everything, in the text format of Prometheus."""
        return generate_latest(self.registry)

    def _counter(self, name: str, told: str) -> Counter:
        return Counter(name, told, registry=self.registry)

    def _seconds(self, stage: str, told: str) -> Histogram:
        return Histogram(
            f"vlv_{stage}_seconds", f"{told} Seconds.", registry=self.registry, buckets=_SECONDS
        )
