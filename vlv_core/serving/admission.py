"""Who may come in, and who is in: the bound of the queue, and the graceful stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hmac import compare_digest

from vlv_core.serving import refusal
from vlv_core.serving.batching import Batcher


class Admission:
    """Counts requests. For the event loop's thread alone.

    A request holds a place from its headers until the model takes its picture, so that bodies
    being read and pictures being prepared are bounded too, and with them memory.
    """

    def __init__(self, batcher: Batcher, *, max_queue: int, api_key: str | None) -> None:
        self._batcher, self._max_queue = batcher, max_queue
        self._api_key = None if api_key is None else api_key.encode()
        self._arriving = 0
        self._inside: set[Callable[[Exception], None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.stopping = False

    @property
    def waiting(self) -> int:
        """Requests that are read or queued."""
        return self._arriving + self._batcher.depth

    def check_key(self, authorization: str | None) -> None:
        """Raises Refusal unless the header holds the key, or there is none."""
        if self._api_key is None:
            return
        kind, _, given = (authorization or "").partition(" ")
        # compare_digest takes as long for a wrong first letter as for a wrong last one
        right = compare_digest(given.strip().encode(errors="replace"), self._api_key)
        if kind.lower() != "bearer" or not right:
            raise refusal.unauthorised()

    @contextmanager
    def inside(self, cut_off: Callable[[Exception], None]) -> Iterator[None]:
        """A request that is answered before the server ends, or else is told so by `cut_off`."""
        if self.stopping:
            raise refusal.stopping()
        self._inside.add(cut_off)
        self._empty.clear()
        try:
            yield
        finally:
            self._inside.discard(cut_off)
            if not self._inside:
                self._empty.set()

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """A request until it is queued. Raises Refusal where the queue is full."""
        if self.waiting >= self._max_queue:
            raise refusal.too_many(self.waiting, retry_after_s=self._batcher.retry_after_s())
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1

    async def drain(self, grace_s: float) -> bool:
        """Take no one in any more and wait for those inside; whether all ended by themselves."""
        self.stopping = True
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._empty.wait()
        if not self._inside:
            return True
        for cut_off in list(self._inside):
            cut_off(refusal.stopping())
        return False
