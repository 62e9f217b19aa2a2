"""Running the application on a socket until it is told to stop, and stopping without loss.

The thread that calls `serve` runs the model, because it also loaded it: libraries keep a pool of
threads for every thread that calls them, and two such pools on the same cores slow each other down
(three times, measured). The event loop has a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn

from vlv_core.serving._app import make_app
from vlv_core.serving._metrics import Metrics
from vlv_core.serving._service import Service
from vlv_core.serving.batching import Batcher
from vlv_core.serving.engine import Engine
from vlv_core.serving.options import ServeOptions
from vlv_core.serving.signals import SignalSocket

if TYPE_CHECKING:
    from vlv_core.captioner import Captioner

logger = logging.getLogger(__name__)

_CUT_OFF_S = 1.0
"""of the grace, what is left for telling those who are cut off"""


@dataclass(frozen=True)
class Running:
    """A server that takes requests."""

    url: str
    model: str
    """by which callers name it"""
    stop: Callable[[], None]
    """as SIGTERM does; from any thread"""


@dataclass(frozen=True)
class Host:
    """What a server tells the program that runs it, from the event loop's thread."""

    started: Callable[[Running], None]
    abandon: Callable[[int], None]
    """must end the process with this code: the model hangs, or a second signal came"""


def serve(
    captioner: Captioner, options: ServeOptions, *, listener: socket.socket, host: Host
) -> None:
    """Serve until SIGTERM, Ctrl-C or `Running.stop`, and run the model meanwhile.

    Signals are heard if this is the main thread.
    """
    metrics = Metrics()
    engine = Engine(captioner, on_batch=metrics.on_batch)
    batcher = Batcher(
        engine.run, max_batch=options.max_batch, max_wait_s=options.max_wait_ms / 1000
    )
    errors: list[BaseException] = []

    def answer() -> None:
        try:
            asyncio.run(_Web(engine, batcher, metrics, options, host).run(listener, signals))
        except BaseException as error:
            errors.append(error)
        finally:
            batcher.close()

    with SignalSocket() as signals:
        # A daemon, so that an error of the model's thread ends the process.
        web = threading.Thread(target=answer, name="vlv-web", daemon=True)
        web.start()
        batcher.work()
        web.join()
    if errors:
        raise errors[0]


class _Web:
    """The event loop's side of a server."""

    def __init__(
        self, engine: Engine, batcher: Batcher, metrics: Metrics, options: ServeOptions, host: Host
    ) -> None:
        self.engine, self.batcher, self.metrics = engine, batcher, metrics
        self.options, self.host = options, host
        self._stop = asyncio.Event()

    async def run(self, listener: socket.socket, signals: SignalSocket) -> None:
        """Answer until told to stop, then finish what was begun."""
        service = Service(self.engine, self.batcher, self.metrics, self.options)
        server = _Server(_config(service))
        loop = asyncio.get_running_loop()
        serving = asyncio.create_task(server.serve([listener]))
        serving.add_done_callback(lambda _: self._stop.set())
        loop.add_reader(signals.reader, self._signalled, signals)
        while not server.started and not self._stop.is_set():
            await asyncio.sleep(0.005)

        def stop() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._stop.set)

        self.host.started(Running(_url(listener), service.name, stop))
        await self._stop.wait()
        await self._drain(service)
        server.should_exit = True
        await serving
        service.close()
        self.batcher.close()
        if not await asyncio.to_thread(self.batcher.ended.wait, _CUT_OFF_S):
            self.host.abandon(0)

    def _signalled(self, signals: SignalSocket) -> None:
        for number in signals.received():
            if self._stop.is_set():
                self.host.abandon(128 + number)
            logger.info("%s: finishing what was begun; once more ends at once", number.name)
            self._stop.set()

    async def _drain(self, service: Service) -> None:
        """New requests are answered 503, and /health is not ready, until the last one is done."""
        grace_s = self.options.grace_s
        logger.info("stopping: %d requests wait", service.admission.waiting)
        cut_off_s = min(_CUT_OFF_S, grace_s / 2)
        if not await service.admission.drain(grace_s - cut_off_s):
            logger.warning("requests were cut off after %g s of grace", grace_s)
            # what was just told must still be sent
            await asyncio.sleep(cut_off_s / 2)


class _Server(uvicorn.Server):
    """uvicorn without its signals: it would close the door before what is inside is finished."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(service: Service) -> uvicorn.Config:
    return uvicorn.Config(
        make_app(service),
        access_log=False,
        log_config=None,
        proxy_headers=False,
        lifespan="off",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=1,
    )


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
