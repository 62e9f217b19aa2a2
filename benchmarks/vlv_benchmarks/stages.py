"""Where the time of a captioner's calls goes: its backend's functions, each with a clock."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from vlv_core.captioner import Captioner

NAMES = {"encode": "encode", "words": "words", "prefill": "prefill", "step": "decode",
         "select": "decode", "predict": "denoise", "decode": "pictures"}  # fmt: skip
"""function of a backend or stepper -> the stage that it belongs to"""


@dataclass
class Watch:
    """Milliseconds by stage since the last `take`, and what was done in them."""

    spent: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    rows: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """pictures of encode, rows of prefill, row steps of decode"""
    context: int = 0
    """positions of the cache that the row steps read, summed"""

    def take(self) -> dict[str, float]:
        """What was spent, and begin anew."""
        taken = dict(self.spent)
        self.spent.clear()
        return taken

    def forget(self) -> None:
        """Begin anew altogether, as after the calls that warm up."""
        for table in (self.spent, self.calls, self.rows):
            table.clear()
        self.context = 0


@contextmanager
def watched(captioner: Captioner) -> Iterator[Watch]:
    """A clock inside each of the backend's functions while the context is open."""
    backend: Any = captioner.backend
    watch = Watch()
    plain_start = backend.start

    def start(prefix: Any, capacity: int) -> Any:
        stepper = plain_start(prefix, capacity)
        filled = prefix.shape[1]

        def seen(name: str, result: Any) -> None:
            nonlocal filled
            if name == "select":
                return
            rows = len(result.ids)
            watch.rows[NAMES[name]] += rows
            if name == "step":
                filled += 1
                watch.context += rows * filled

        for name in ("prefill", "step", "select"):
            setattr(stepper, name, _timed(watch, name, getattr(stepper, name), seen))
        return stepper

    def counted(name: str, result: Any) -> None:
        watch.rows[NAMES[name]] += 1 if name == "words" else len(result)

    for name in ("encode", "words", "predict", "decode"):
        setattr(backend, name, _timed(watch, name, getattr(backend, name), counted))
    backend.start = start
    try:
        yield watch
    finally:
        for name in ("encode", "words", "predict", "decode", "start"):
            delattr(backend, name)


def _timed(
    watch: Watch, name: str, call: Callable[..., Any], seen: Callable[[str, Any], None]
) -> Callable[..., Any]:
    stage = NAMES[name]

    def run(*arguments: Any) -> Any:
        started = time.perf_counter()
        result = call(*arguments)
        watch.spent[stage] += (time.perf_counter() - started) * 1e3
        watch.calls[stage] += name != "select"
        seen(name, result)
        return result

    return run
