"""One request's picture on its way through queue and model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from vlv_core.generation import GenerationOptions

Words = Callable[[list[int]], str]
"""tokens -> their text"""


class Piece(NamedTuple):
    """More of a caption that is streamed."""

    text: str


class Finished(NamedTuple):
    """A whole caption. `reason` is eos, length or repetition; the end of text is not counted."""

    text: str
    tokens: int
    reason: str


Event = Piece | Finished | Exception


@dataclass(eq=False)
class Job:
    """What to decode and how far it is. Times are those of `perf_counter`."""

    view: NDArray[np.uint8]
    """(S, S, 3)"""
    options: GenerationOptions
    """jobs with equal ones may share a batch; its max_new_tokens is the model's room"""
    limit: int
    """tokens that this job wants at most"""
    emit: Callable[[Event], None]
    """called by the worker; must not block"""
    key: int = 0
    """decides the draws when sampling"""
    stream: bool = False
    cancelled: bool = False
    """nobody waits any more; read by the worker at every step"""

    submitted: float = field(default_factory=perf_counter)
    started: float | None = None
    first: float | None = None
    """when the first word was there"""
    batch: int = 0
    """rows of the batch that it ran in"""
    tokens: list[int] = field(default_factory=list)
    over: bool = False
    _written: int = 0

    def add(self, token: int, words: Words) -> None:
        """One more token; its text goes out if the caption is streamed."""
        self.first = self.first or perf_counter()
        self.tokens.append(token)
        if self.stream:
            text = words(self.tokens)
            # Bytes of a character that is not complete yet decode to U+FFFD: wait for the rest.
            if not text.endswith("\ufffd"):
                self._write(text)

    def finish(self, reason: str, words: Words) -> None:
        """No token comes any more."""
        self.first = self.first or perf_counter()
        self.over = True
        text = words(self.tokens)
        if self.stream:
            self._write(text)
        self.emit(Finished(text, len(self.tokens), reason))

    def fail(self, error: Exception) -> None:
        """There will be no caption."""
        self.over = True
        self.emit(error)

    def restart(self) -> None:
        """Decode again from the picture; text that went out already is not sent twice."""
        self.tokens = []

    def _write(self, text: str) -> None:
        if len(text) > self._written:
            self.emit(Piece(text[self._written :]))
            self._written = len(text)
