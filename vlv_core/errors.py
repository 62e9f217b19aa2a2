"""What can go wrong, as classes. `cli/` alone turns them into exit codes and printed lines.

A message says what happened, what exists, and what to do; `hint` holds the last where it helps.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class VlvError(Exception):
    """A failure with a sentence for the user. exit code 1 unless a subclass says otherwise."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(VlvError):
    """Wrong usage or wrong input: the user can mend it."""

    exit_code = 2


class ConfigError(UsageError):
    """A recipe or a component's options do not make sense."""


class PluginError(UsageError):
    """A plugin is missing, broken, ambiguous or misdeclared."""


class ModelError(UsageError):
    """A model folder is missing, damaged, or does not fit the code."""


class DataError(UsageError):
    """A dataset or a picture cannot be used."""


class MissingExtra(UsageError):
    """Optional libraries are absent.

    >>> raise MissingExtra("torch", extra="train", needed_by="encoder 'mini'")

    extra: the pip extra of vlv that supplies them; None if the libraries are packages themselves
    needed_by: what cannot go on without them
    """

    def __init__(self, *libraries: str, extra: str | None, needed_by: str = "") -> None:
        one = len(libraries) == 1
        super().__init__(
            (f"{needed_by}: " if needed_by else "")
            + f"{' and '.join(libraries)} {'is' if one else 'are'} not installed",
            hint=f"{pip_line(libraries, extra)} supplies {'it' if one else 'them'}",
        )


class Inconclusive(VlvError):
    """A measurement that cannot decide."""

    exit_code = 3


class SomeInputsFailed(VlvError):
    """The run finished, and some inputs failed; the counts are in the message."""

    exit_code = 4


class NotProved(VlvError):
    """The thing was made, but its proof failed or waits for other hardware."""

    exit_code = 5


def pip_line(libraries: Iterable[str], extra: str | None) -> str:
    """The command that installs libraries: by an extra of vlv, or by their own names."""
    supplier = f"'vlv[{extra}]'" if extra else " ".join(libraries)
    return f"pip install {supplier}"


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the closest known name, or an empty string."""
    match = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {match[0]!r}?" if match else ""
