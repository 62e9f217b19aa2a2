"""Pictures inside tar archives, read in place: nothing is ever extracted, so no name can escape."""

from __future__ import annotations

import os
import posixpath
import tarfile
from pathlib import Path, PurePosixPath

from vlv_core.data.folder import is_picture_name
from vlv_core.jobs.inputs import Input, key_of

_BLOCK = 512
"""bytes of a tar block"""


def is_archive(name: str) -> bool:
    """Whether a file of this name is taken for a tar archive, compressed ones among them."""
    suffixes = PurePosixPath(name.lower()).suffixes[-2:]
    return ".tar" in suffixes or suffixes[-1:] == [".tgz"]


def members(path: str) -> tuple[list[Input], int]:
    """The pictures of an archive, in its order, and how many other members it holds.

    Where the archive is damaged, the pictures before the damage are followed by an input that
    fails. As in WebDataset's shards, members of one stem belong together; if a stem has a caption
    as other pictures have, but no picture, that too is an input that fails.
    """
    key = key_of(path)
    reader = _Reader(key)
    if not Path(path).is_file():
        # A pipe would be waited for, a dangling link cannot be opened.
        reader.fail(key, "not a file")
        return reader.inputs, 0
    try:
        # "r:" is plain tar alone: members of a compressed one cannot be read in place.
        with tarfile.open(path, "r:") as archive:
            reader.end = Path(path).stat().st_size
            while (member := archive.next()) is not None:
                reader.add(member)
            reader.check_end(archive)
    except tarfile.TarError as error:
        reader.damaged(str(error))
    except OSError as error:
        reader.fail(key, error.strerror or str(error))
    lost = reader.lost()
    return reader.inputs + lost, len(reader.others) - len(lost)


class _Reader:
    def __init__(self, key: str) -> None:
        self.key = key
        self.inputs: list[Input] = []
        self.others: list[str] = []
        self.end = 0
        self.cut = False
        """whether the last picture is known to be cut off"""

    def add(self, member: tarfile.TarInfo) -> None:
        name = posixpath.normpath(member.name)
        if member.isdir():
            return
        if not is_picture_name(posixpath.basename(name)):
            self.others.append(name)
        elif name.startswith(("/", "../")):
            self.fail(f"{self.key}/{name}", "its name leaves the archive")
        elif not member.isreg() or member.issparse():
            self.fail(f"{self.key}/{name}", "a link or a sparse file, not a plain member")
        elif member.offset_data + member.size > self.end:
            self.cut = True
            self.fail(f"{self.key}/{name}", "the archive ends inside it")
        else:
            place = (member.offset_data, member.size)
            self.inputs.append(Input(f"{self.key}/{name}", self.key, *place))

    def check_end(self, archive: tarfile.TarFile) -> None:
        """After the last member come zeros; tarfile also ends, silently, at a damaged header."""
        with Path(self.key).open("rb") as stream:
            stream.seek(archive.offset)
            if stream.read(_BLOCK).strip(b"\0"):
                self.damaged("bad header")

    def damaged(self, reason: str) -> None:
        if not self.cut:
            count = len(self.inputs)
            self.fail(self.key, f"not a plain tar archive, or damaged after {count}: {reason}")

    def fail(self, key: str, reason: str) -> None:
        self.inputs.append(Input(key, self.key, error=reason))

    def lost(self) -> list[Input]:
        """Inputs that fail, for captions whose picture the archive lacks."""
        prefix = len(self.key) + 1
        stems = {os.path.splitext(entry.key[prefix:])[0] for entry in self.inputs}  # noqa: PTH122
        parts = [(name, *os.path.splitext(name)) for name in self.others]  # noqa: PTH122
        paired = {suffix for _, stem, suffix in parts if stem in stems}
        return [
            Input(f"{self.key}/{name}", self.key, error="it has no picture beside it")
            for name, stem, suffix in parts
            if stem not in stems and suffix in paired
        ]
