"""Names of many files in one line: braces as shells expand them, stars as glob does."""

import glob
import re
from collections.abc import Iterator
from pathlib import Path

from vlv_core.errors import DataError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_SHOWN = 5
"""absent files that are named; the others are counted"""


def find_files(pattern: str, root: Path, *, option: str) -> list[Path]:
    """The files of "laion/{00000..00041}.tar", "{a,b}/x.tar", "shards/**/*.tar" or a mixture.

    Relative patterns start at `root`. Each name once, those of a star sorted. Raises DataError if
    braces name a file that is not there, or nothing matches; `option` is where the recipe says it.
    """
    found: dict[Path, None] = {}
    absent: list[str] = []
    for name in braces(pattern):
        if glob.has_magic(name):
            # Not by pathlib, whose globs cannot be absolute.
            names = sorted(glob.glob(name, root_dir=root, recursive=True))  # noqa: PTH207
        else:
            names = [name] if (root / name).is_file() else []
            absent += [] if names else [name]
        found |= dict.fromkeys(root / each for each in names if (root / each).is_file())
    if absent:
        named = ", ".join(map(repr, absent[:_SHOWN]))
        more = f" and {len(absent) - _SHOWN} others" if len(absent) > _SHOWN else ""
        raise DataError(
            f"{option}: no file {named}{more} in '{root}'; {len(found)} of its files are there",
            hint=f"fetch what is absent, or correct {option} in the recipe",
        )
    if not found:
        raise DataError(
            f"{option}: {pattern!r} matches no file in '{root}'",
            hint=f"correct {option} in the recipe",
        )
    return list(found)


def braces(pattern: str) -> Iterator[str]:
    """All names that a pattern's braces stand for.

    >>> list(braces("{a,b}-{08..10}.tar"))[:3]
    ['a-08.tar', 'a-09.tar', 'a-10.tar']
    """
    match = _BRACES.search(pattern)
    if match is None:
        yield pattern
        return
    for choice in _choices(match[1]):
        yield from braces(pattern[: match.start()] + choice + pattern[match.end() :])


def _choices(inside: str) -> Iterator[str]:
    numbers = _RANGE.fullmatch(inside)
    if numbers is None:
        yield from inside.split(",")
        return
    first, last = int(numbers[1]), int(numbers[2])
    for number in range(first, last + 1):
        yield str(number).zfill(len(numbers[1]))
