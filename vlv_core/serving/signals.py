"""SIGTERM and Ctrl-C for an event loop that does not run in the main thread."""

from __future__ import annotations

import signal
import socket
import threading
from types import FrameType, TracebackType
from typing import Any

from vlv_core.interrupt import SIGNALS


class SignalSocket:
    """While open, signals become bytes that `reader` gets, each the number of one.

    Python runs handlers in the main thread, between two of its steps; the bytes are written at
    once, also while that thread computes in foreign code. Elsewhere than there it does nothing.
    """

    def __init__(self) -> None:
        self.reader, self._writer = socket.socketpair()
        self.reader.setblocking(False)
        self._writer.setblocking(False)
        self._before: dict[signal.Signals, Any] = {}
        self._descriptor = -1

    def __enter__(self) -> SignalSocket:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, _nothing) for number in SIGNALS}
            self._descriptor = signal.set_wakeup_fd(
                self._writer.fileno(), warn_on_full_buffer=False
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before:
            signal.set_wakeup_fd(self._descriptor)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.reader.close()
        self._writer.close()

    def received(self) -> list[signal.Signals]:
        """The signals since the last call that ask to stop."""
        try:
            numbers = self.reader.recv(64)
        except BlockingIOError:
            return []
        return [signal.Signals(number) for number in numbers if number in SIGNALS]


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler, without which a signal would still end the process."""
