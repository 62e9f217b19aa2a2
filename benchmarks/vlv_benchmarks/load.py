"""Requests that come by chance (Poisson arrivals) to a server on this machine, and what becomes of
them. An open loop: a slow answer keeps nobody from asking, as in life (Schroeder et al., "Open
Versus Closed", NSDI 2006)."""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

GOOD_SHARE = 0.99
"""of requests that must be answered within the limit for a rate to count as borne"""
GROWTH, FINE = 4.0, 1.5
"""what each rate of a sweep multiplies the last one by, and how near each other the highest that
was borne and the lowest that was not must come"""
QUEUE_FULL = 429


@dataclass(frozen=True)
class Answer:
    """What became of a request."""

    picture: int
    status: int
    """of HTTP; 0: no answer"""
    ms: float
    """from when it was due, not from when it was sent: waiting for a place to send from counts"""
    text: str = ""


@dataclass(frozen=True)
class Offered:
    """One rate, and how it was borne."""

    per_s: float
    answers: tuple[Answer, ...]
    seconds: float

    def counts(self) -> dict[str, int]:
        """Requests by what became of them: `sent` is the sum of the others. Failed are those with
        no answer, or an error other than that the queue was full."""
        statuses = [each.status for each in self.answers]
        answered, refused = statuses.count(200), statuses.count(QUEUE_FULL)
        return {"sent": len(statuses), "answered": answered, "refused": refused,
                "failed": len(statuses) - answered - refused}  # fmt: skip

    def good(self, limit_ms: float) -> int:
        return sum(each.status == 200 and each.ms <= limit_ms for each in self.answers)

    def goodput(self, limit_ms: float) -> float:
        """Requests a second that were answered within the limit."""
        return self.good(limit_ms) / self.seconds

    def borne(self, limit_ms: float) -> bool:
        return self.good(limit_ms) >= GOOD_SHARE * len(self.answers)


def sweep(
    level: Callable[[float], Offered], *, first: float, limit_ms: float, most: int
) -> list[Offered]:
    """Rates, each four times the last until one is not borne, then between those two, until they
    are near each other; at most `most` of them. A first rate that is not borne ends it."""
    found: list[Offered] = []
    rate, borne, lost = first, 0.0, float("inf")
    while len(found) < most and lost > FINE * borne:
        found.append(level(rate))
        if found[-1].borne(limit_ms):
            borne = rate
        else:
            lost = rate
        if not borne:
            break
        rate = min(GROWTH * borne, sqrt(borne * lost))
    return found


def bodies(model: str, pictures: Sequence[Path]) -> list[bytes]:
    """A request's JSON for each PNG file."""
    found = []
    for path in pictures:
        url = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
        content = [{"type": "image_url", "image_url": {"url": url}}]
        asked = {"model": model, "messages": [{"role": "user", "content": content}]}
        found.append(json.dumps(asked).encode())
    return found


def arrivals(count: int, *, per_s: float, seed: int) -> list[float]:
    """Seconds from the start at which requests are due."""
    gaps = np.random.default_rng(seed).exponential(1 / per_s, count)
    return list(map(float, np.cumsum(gaps)))


async def offer(
    url: str, asked: Sequence[bytes], *, per_s: float, count: int, seed: int, timeout_s: float
) -> Offered:
    """Send `count` requests at that mean rate, and wait for all answers."""
    started = time.perf_counter()
    answers = await asyncio.gather(*(
        _ask(url, asked[index % len(asked)], index % len(asked), started + due, timeout_s)
        for index, due in enumerate(arrivals(count, per_s=per_s, seed=seed))
    ))  # fmt: skip
    return Offered(per_s, tuple(answers), time.perf_counter() - started)


async def _ask(url: str, body: bytes, picture: int, due: float, timeout_s: float) -> Answer:
    await asyncio.sleep(max(0.0, due - time.perf_counter()))
    try:
        async with asyncio.timeout(timeout_s):
            status, data = await _post(url, body)
    except (OSError, TimeoutError, ValueError, IndexError):
        return Answer(picture, 0, (time.perf_counter() - due) * 1e3)
    spent = (time.perf_counter() - due) * 1e3
    text = json.loads(data)["choices"][0]["message"]["content"] if status == 200 else ""
    return Answer(picture, status, spent, text)


async def _post(url: str, body: bytes) -> tuple[int, bytes]:
    """One request on a connection of its own: status and body."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {place.netloc}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        answer = await reader.read()
    finally:
        writer.close()
    top, _, data = answer.partition(b"\r\n\r\n")
    return int(top.split(b" ", 2)[1]), data
