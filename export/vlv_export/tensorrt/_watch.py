"""What a compiler says while it works: its messages, its progress, and the wish to stop."""

import re
import threading
import time
from collections.abc import Callable
from typing import Any

from vlv_core.errors import VlvError

_BYTES = re.compile(r": (\d+) bytes")
_PAUSE_S = 0.2
"""between two words of progress within a phase"""
_LONGEST = 400
"""characters of a compiler's error: some print a whole graph"""


class Stopped(VlvError):
    """The build was asked to stop."""

    exit_code = 130


class Log:
    """Messages of one build."""

    def __init__(self) -> None:
        self.logger: Any = None
        self.errors: list[str] = []
        self._kept: list[str] = []

    def add(self, severity: str, text: str) -> None:
        """Keep errors, and what is asked for later: the rest is thousands of lines."""
        if severity in ("ERROR", "INTERNAL_ERROR"):
            line = " ".join(text.split())
            self.errors.append(line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ...")
        elif text.startswith("Layers:") or "Memory: " in text[:200]:
            self._kept.append(text)

    def last(self, start: str) -> str | None:
        """The last message that begins so."""
        return next((text for text in reversed(self._kept) if text.startswith(start)), None)

    def numbers(self, words: str) -> list[int]:
        """Numbers of bytes in the messages `words: N bytes`."""
        return [
            int(match[1])
            for text in self._kept
            if text.startswith(words) and (match := _BYTES.search(text))
        ]


def verbose_logger(trt: Any, log: Log) -> Any:
    """A logger of the compiler's that gives all messages to `log`."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            log.add(severity.name, text)

    log.logger = Logger()
    return log.logger


class Progress:
    """Where the work is, said a few times a second; and the wish to stop."""

    def __init__(self, say: Callable[[str, str, int, int], None]) -> None:
        """say: takes part, phase, step, and the phase's number of steps (0 if it has none)."""
        self.part = ""
        self.stop = threading.Event()
        self._say = say
        self._steps: dict[str, int] = {}
        self._said = 0.0
        # The compiler calls from several threads.
        self._lock = threading.Lock()

    def phase(self, name: str, steps: int = 0) -> None:
        """A phase begins. Raises Stopped."""
        self.check()
        with self._lock:
            self._steps[name] = steps
            self._say(self.part, name, 0, steps)

    def step(self, name: str, step: int) -> bool:
        """A step is done; False if the work is to stop."""
        with self._lock:
            if (now := time.monotonic()) - self._said > _PAUSE_S:
                self._said = now
                self._say(self.part, name, step + 1, self._steps.get(name, 0))
        return not self.stop.is_set()

    def check(self) -> None:
        """Raises Stopped if the work is to stop."""
        if self.stop.is_set():
            raise Stopped("the build was stopped; nothing of it is left")


def progress_monitor(trt: Any, progress: Progress) -> Any:
    """The compiler's own interface to `progress`."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            # An exception must not reach the compiler: `step` tells it to stop.
            if not progress.stop.is_set():
                progress.phase(name, steps)

        def step_complete(self, name: str, step: int) -> bool:
            return progress.step(name, step)

        def phase_finish(self, name: str) -> None:
            pass

    return Monitor()
