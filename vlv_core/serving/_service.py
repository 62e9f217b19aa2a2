"""What the endpoints of one server share, and how a request's body becomes a job."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from secrets import randbits
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlv_core.errors import DataError
from vlv_core.preprocess import open_picture, to_view
from vlv_core.serving._metrics import Metrics
from vlv_core.serving.admission import Admission
from vlv_core.serving.batching import Batcher
from vlv_core.serving.chat import ChatRequest, read_chat
from vlv_core.serving.engine import Engine
from vlv_core.serving.jobs import Event, Job
from vlv_core.serving.options import ServeOptions
from vlv_core.serving.refusal import Refusal


@dataclass(frozen=True)
class Prepared:
    """A request whose picture is ready for the model."""

    chat: ChatRequest
    view: NDArray[np.uint8]
    """(S, S, 3)"""


class Service:
    """A captioner, its queue and its threads. To be made where an event loop runs."""

    def __init__(
        self, engine: Engine, batcher: Batcher, metrics: Metrics, options: ServeOptions
    ) -> None:
        captioner = engine.captioner
        self.engine, self.batcher, self.metrics, self.options = engine, batcher, metrics, options
        self.full_name, self.domain = captioner.name, captioner.domain
        # The name that its maker gave it, without the hash of the content that follows.
        self.name = captioner.name.partition("@")[0]
        self.created = int(time.time())
        self.admission = Admission(batcher, max_queue=options.max_queue, api_key=options.api_key)
        metrics.watch_depth(lambda: self.admission.waiting)
        self._view = captioner.view
        self._loop = asyncio.get_running_loop()
        _warm_decoders_up()
        self._pool = ThreadPoolExecutor(options.decoders, thread_name_prefix="vlv-decode")

    async def prepare(self, body: bytes) -> Prepared:
        """Read a request and its picture, off the event loop. Raises Refusal."""
        return await self._loop.run_in_executor(self._pool, self._prepare, body)

    def job(self, prepared: Prepared, events: asyncio.Queue[Event]) -> Job:
        """What is to be decoded; its events arrive in the loop's thread."""
        chat = prepared.chat

        def emit(event: Event) -> None:
            # A closed loop has nobody left who could listen.
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(events.put_nowait, event)

        return Job(
            view=prepared.view,
            options=self.engine.options(temperature=chat.temperature, top_p=chat.top_p),
            limit=self.engine.limit(chat.max_tokens),
            emit=emit,
            key=_key(chat),
            stream=chat.stream,
        )

    def check_model(self, name: str) -> None:
        """Raises Refusal for a model that is not the one served."""
        if name not in (self.name, self.full_name):
            raise Refusal(
                f"no model {name[:60]!r}; this server has {self.name!r}",
                status=404,
                param="model",
                code="model_not_found",
            )

    def close(self) -> None:
        """End the threads that prepare pictures."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, body: bytes) -> Prepared:
        started = perf_counter()
        chat = read_chat(body)
        self.check_model(chat.model)
        try:
            picture = open_picture(chat.picture, max_pixels=self.options.max_pixels)
            view = to_view(picture, self._view)
        except DataError as error:
            hint = f"; {error.hint}" if error.hint else ""
            raise Refusal(
                f"the picture cannot be read: {error.message[:300]}{hint}",
                param="messages",
                code="invalid_image",
            ) from None
        self.metrics.images.inc()
        self.metrics.prepare.observe(perf_counter() - started)
        # The file is not needed any more, and may be large.
        return Prepared(replace(chat, picture=b""), view)


def _key(chat: ChatRequest) -> int:
    """The seed is the row's key, so that requests of all seeds may share a batch."""
    if chat.seed is not None:
        return chat.seed
    return randbits(64) if chat.temperature else 0


def _warm_decoders_up() -> None:
    """Have Pillow load its formats now, and not for the first caller."""
    stream = BytesIO()
    Image.new("RGB", (1, 1)).save(stream, "PNG")
    open_picture(stream.getvalue())
