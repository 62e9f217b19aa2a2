"""One request on its way: what its log line and the metrics tell."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field
from time import perf_counter, time
from typing import Any

from starlette.responses import Response

from vlv_core.serving import refusal
from vlv_core.serving.jobs import Event, Finished, Job
from vlv_core.serving.refusal import Refusal

logger = logging.getLogger(__name__)


class Gone(Exception):
    """Whoever asked has hung up."""


@dataclass(eq=False)
class Call:
    """Starts with the headers. `events` brings all that may happen: words, errors, the clock."""

    identity: str
    arrived: float = field(default_factory=perf_counter)
    created: int = field(default_factory=lambda: int(time()))
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    outcome: str = "stopping"
    """label of metrics and log; the first one stays if the server's end cuts the request off"""
    status: int = 0
    """of HTTP; 0 until it is sent"""
    size: int = 0
    """bytes of the body"""
    stream: bool = False
    job: Job | None = None

    def refusal(self, error: Exception) -> Refusal:
        """What the caller may know: of errors of ours the id, under which the log has the rest."""
        if isinstance(error, Refusal):
            return error
        logger.error("%s failed", self.identity, exc_info=error)
        return refusal.broken(self.identity)

    def response(self, body: dict[str, Any], refused: Refusal | None = None) -> Response:
        """The answer as JSON, or an error."""
        self.status = refused.status if refused else 200
        headers = {"x-request-id": self.identity, **(refused.headers if refused else {})}
        return json_response(body, status=self.status, headers=headers)

    def log(self, finished: Finished | None) -> None:
        """One line a request."""
        job, told = self.job, ""
        if job and job.started is not None:
            told = f", queued {1000 * (job.started - job.submitted):.0f} ms, batch of {job.batch}"
        if finished:
            told += f", {finished.tokens} tokens ({finished.reason})"
        logger.info(
            "%s %d %s%s: %.0f ms, %d bytes%s",
            self.identity,
            self.status,
            self.outcome,
            " streamed" if self.stream else "",
            1000 * (perf_counter() - self.arrived),
            self.size,
            told,
        )


def json_response(
    body: dict[str, Any], *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """JSON in ASCII: a caller's text may hold halves of characters, which no UTF-8 can say."""
    return Response(json.dumps(body), status, headers, media_type="application/json")
