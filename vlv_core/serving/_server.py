"""Running the application on a socket until it is told to stop, and stopping without loss."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn

from vlv_core.errors import UsageError
from vlv_core.interrupt import SIGNALS
from vlv_core.serving._app import make_app
from vlv_core.serving._service import Service
from vlv_core.serving.options import ServeOptions

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


def bind(host: str, port: int) -> socket.socket:
    """A socket on which nobody listens yet, so that a taken port is found before a model is loaded.

    Raises UsageError if there is no such address, or it is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(f"no address {host!r}: {error.strerror or error}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"cannot listen on {host} port {port}: {error.strerror or error}",
            hint="--port 0 takes any free port",
        ) from None
    return listener


def serve(
    captioner: Captioner,
    options: ServeOptions,
    *,
    listener: socket.socket,
    started: Callable[[Running], None],
) -> bool:
    """Serve until SIGTERM, Ctrl-C or `Running.stop`; whether every thread ended.

    Signals are heard in the main thread only. A second one acts as it always does.
    """
    return asyncio.run(_serve(captioner, options, listener=listener, started=started))


async def _serve(
    captioner: Captioner,
    options: ServeOptions,
    *,
    listener: socket.socket,
    started: Callable[[Running], None],
) -> bool:
    service = Service(captioner, options)
    server = _Server(
        uvicorn.Config(
            make_app(service),
            access_log=False,
            log_config=None,
            lifespan="off",
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=1,
        )
    )
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    serving = asyncio.create_task(server.serve([listener]))
    serving.add_done_callback(lambda _: stop.set())
    while not server.started and not stop.is_set():
        await asyncio.sleep(0.005)
    with _signals(loop, stop):
        started(Running(_url(listener), service.name, lambda: _from_any_thread(loop, stop)))
        await stop.wait()
        await _drain(service, options.grace_s)
        server.should_exit = True
        await serving
    return service.close(_CUT_OFF_S)


async def _drain(service: Service, grace_s: float) -> None:
    """Finish what was begun. New requests are answered 503, /health is not ready meanwhile."""
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


@contextmanager
def _signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> Iterator[None]:
    def asked(number: signal.Signals) -> None:
        logger.info("%s: finishing what was begun; once more ends at once", number.name)
        remove()
        stop.set()

    def remove() -> None:
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    for number in SIGNALS:
        loop.add_signal_handler(number, asked, number)
    try:
        yield
    finally:
        remove()


def _from_any_thread(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(stop.set)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
