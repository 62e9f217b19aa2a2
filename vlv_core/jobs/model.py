"""Calling the model on a batch, so that one bad picture cannot take the others with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from logging import getLogger
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from vlv_core.errors import DataError, VlvError
from vlv_core.jobs.decoding import Decoded
from vlv_core.randomness import key_of

if TYPE_CHECKING:
    from vlv_core.generation import GenerationOptions
    from vlv_core.protocols import Caption
    from vlv_core.specs import View

logger = getLogger(__name__)

_GIVE_UP = 16
"""pictures in a row on which the model alone fails, that end a job"""


class Captions(Protocol):
    """What a job needs of a captioner."""

    name: str
    view: View

    def caption(
        self, pictures: Any, *, options: GenerationOptions | None, keys: Sequence[int] | None
    ) -> list[Caption]: ...


class Answer(NamedTuple):
    """A caption, or the reason why there is none."""

    caption: Caption | None
    seconds: float
    error: str | None = None


class Model:
    """Captions batches and isolates the pictures on which the captioner fails."""

    def __init__(self, captioner: Captions, options: GenerationOptions | None) -> None:
        self.captioner = captioner
        self.options = options
        self._failures = 0

    def answer(self, batch: Sequence[Decoded]) -> list[Answer]:
        """One answer a picture, in order; all pictures must have a view.

        If the batch fails, its pictures are tried one by one. Raises what the captioner says of
        wrong usage, and VlvError once it has failed on `_GIVE_UP` pictures in a row.
        """
        if not batch:
            return []
        started = time.perf_counter()
        try:
            captions = self._caption(batch)
        except Exception as error:
            raise_if_usage(error)
            if len(batch) > 1:
                logger.warning("a batch failed, now one by one: %s", reason_of(error))
                return [answer for picture in batch for answer in self.answer([picture])]
            return [self._failed(error, time.perf_counter() - started)]
        self._failures = 0
        seconds = (time.perf_counter() - started) / len(batch)
        return [Answer(caption, seconds) for caption in captions]

    def _caption(self, batch: Sequence[Decoded]) -> list[Caption]:
        # A picture's draws hang on its name alone, not on its neighbours or the number of runs.
        keys = [key_of(picture.input.key) for picture in batch]
        views = [picture.view for picture in batch]
        captions = self.captioner.caption(views, options=self.options, keys=keys)
        if len(captions) != len(batch):
            raise RuntimeError(f"{len(captions)} captions for {len(batch)} pictures")
        return captions

    def _failed(self, error: Exception, seconds: float) -> Answer:
        self._failures += 1
        reason = reason_of(error)
        if self._failures >= _GIVE_UP:
            raise VlvError(
                f"the model failed on {self._failures} pictures in a row, the last time: {reason}",
                hint="finished rows are kept; --retry-failed tries the failed ones again",
            ) from error
        return Answer(None, seconds, f"the model failed: {reason}")


def raise_if_usage(error: Exception) -> None:
    """Wrong options are wrong for every picture; only DataError is about the picture itself."""
    if isinstance(error, VlvError) and not isinstance(error, DataError):
        raise error


def reason_of(error: Exception) -> str:
    """What failed, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
