"""One line of a job's output: all there is to know of one picture."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Literal

from vlv_core.errors import UsageError

if TYPE_CHECKING:
    from vlv_core.generation import GenerationOptions

START = b'{"path": '
"""how every line begins, by which a torn one is told from a stranger's"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A finished picture."""

    path: str
    """the input's key"""
    status: Literal["ok", "failed"]
    caption: str | None = None
    tokens: tuple[int, ...] | None = None
    logprob: float | None = None
    """sum over the tokens"""
    finish_reason: str | None = None
    seconds: float | None = None
    """of the model; a batch's time is shared evenly"""
    error: str | None = None
    """the reason of a failure, one line"""
    model: str
    options: str
    """how it was decoded, see `describe`"""
    sha256: str | None = None
    """of the picture's file"""

    def line(self) -> bytes:
        """One line of JSON, its newline included."""
        values = asdict(self)
        try:
            return (json.dumps(values, ensure_ascii=False) + "\n").encode()
        except UnicodeEncodeError:
            # A name that is no UTF-8: escapes can hold it, and only this line is less legible.
            return (json.dumps(values) + "\n").encode()


_NAMES = tuple(field.name for field in fields(Row))


def parse(line: bytes) -> Row:
    """The row of a line. Raises UsageError if it is none that a job wrote."""
    try:
        values = json.loads(line)
        row = Row(**{name: values[name] for name in _NAMES})
    except (ValueError, TypeError, KeyError):
        raise UsageError("not a row that a captioning job wrote") from None
    if not isinstance(row.path, str) or row.status not in ("ok", "failed"):
        raise UsageError("not a row that a captioning job wrote")
    return row


def describe(options: GenerationOptions | None) -> str:
    """Decoding options in words, equal where captions are: what differs from the defaults."""
    if options is None:
        return "the model's own"
    changed = [
        f"{field.name}={getattr(options, field.name)}"
        for field in fields(options)
        if getattr(options, field.name) != field.default
    ]
    return " ".join(changed) or "defaults"
