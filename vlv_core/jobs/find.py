"""Which pictures a job is given: files, folders, patterns, lists and tar archives."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from vlv_core.data.folder import is_picture_name, scan
from vlv_core.errors import UsageError
from vlv_core.jobs.archives import is_archive, members
from vlv_core.jobs.inputs import Input, key_of


class Found(NamedTuple):
    """What the arguments of a job led to."""

    inputs: list[Input]
    """each key once, in the order of the arguments"""
    ignored: int
    """files of folders and members of archives that are no pictures"""


def find_inputs(arguments: Sequence[str], *, stdin: BinaryIO | None = None) -> Found:
    """Expand arguments: a file, a folder (all pictures below it), a pattern (`**` for any depth), a
    `.tar`, `@list.txt` (a path a line, or NUL-separated), `-` for such a list on `stdin`.

    A file that is named is an input whatever its ending; from folders, patterns and archives,
    pictures are taken by their ending. An entry of a list that names nothing is an input that
    fails. Raises UsageError if an argument names nothing, or if there is no input at all.
    """
    search = _Search()
    for argument in arguments:
        if argument == "-" and stdin is not None:
            search.listed(stdin.read())
        elif not search.path(argument):
            search.indirect(argument)
    if not search.inputs:
        raise UsageError(
            f"no pictures found, and {search.ignored} other files",
            hint="give picture files, folders, patterns, tar archives, @list.txt or -",
        )
    return Found(list(search.inputs.values()), search.ignored)


class _Search:
    def __init__(self) -> None:
        self.inputs: dict[str, Input] = {}
        self.ignored = 0

    def path(self, path: str) -> bool:
        """Take a file, folder or archive; False if the path names nothing."""
        if not os.path.lexists(path):
            return False
        if Path(path).is_dir():
            self._folder(path)
        elif is_archive(path):
            inputs, ignored = members(path)
            self._add(inputs)
            self.ignored += ignored
        else:
            key = key_of(path)
            self._add([Input(key, key)])
        return True

    def indirect(self, argument: str) -> None:
        """Take an argument that is not itself a path: a list or a pattern."""
        if argument.startswith("@") and Path(argument[1:]).is_file():
            self.listed(Path(argument[1:]).read_bytes())
            return
        matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207
        if not matches:
            raise UsageError(
                f"{argument!r} is no file, folder, list or pattern that matches anything"
            )
        for match in matches:
            if Path(match).is_dir() or is_archive(match) or is_picture_name(Path(match).name):
                self.path(match)
            else:
                self.ignored += 1

    def listed(self, data: bytes) -> None:
        separator = b"\0" if b"\0" in data else b"\n"
        for entry in data.split(separator):
            path = os.fsdecode(entry.removesuffix(b"\r"))
            if path.strip() and not self.path(path):
                key = key_of(path)
                self._add([Input(key, key, error="no such file")])

    def _folder(self, path: str) -> None:
        found = scan(Path(path))
        self.ignored += found.ignored
        key = key_of(path)
        prefix = "" if key == "." else f"{key.rstrip('/')}/"
        names = (prefix + name for name in found.pictures)
        self._add(Input(name, name) for name in names)
        self._add(
            Input(key_of(Path(path) / name), path, error=f"cannot list this folder: {reason}")
            for name, reason in found.unreadable.items()
        )

    def _add(self, inputs: Iterable[Input]) -> None:
        for entry in inputs:
            self.inputs.setdefault(entry.key, entry)
