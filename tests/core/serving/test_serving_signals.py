"""Signals as bytes, and handlers as they were before."""

import os
import signal
import threading

from tests.core.serving.toy_server import PATIENCE_S
from vlv_core.serving.signals import SignalSocket


def test_signals_arrive_in_order_and_handlers_come_back() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with SignalSocket() as signals:
        assert signals.received() == []
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received() == [signal.SIGTERM, signal.SIGINT]
        assert signals.received() == []
    assert before == {number: signal.getsignal(number) for number in before}


def test_other_signals_are_not_meant() -> None:
    heard = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *_: heard.set())
    try:
        with SignalSocket() as signals:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert heard.wait(PATIENCE_S) and signals.received() == []
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_outside_the_main_thread_nothing_is_installed() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def inside() -> None:
        with SignalSocket() as signals:
            seen.append((signal.getsignal(signal.SIGTERM), signals.received()))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join(PATIENCE_S)
    assert seen == [(before, [])]
