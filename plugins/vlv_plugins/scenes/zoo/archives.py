"""Tar archives of pictures and captions, `key.png` beside `key.txt`, with something amiss."""

import tarfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path

from vlv_plugins.scenes.zoo.entry import Entry, encoded, scene_picture

_BLOCK = 512
"""Bytes of a tar block; a member's header is one, its content is padded to whole ones."""


def write_archives(folder: Path) -> Iterator[Entry]:
    """Write the archives; each of their samples has an entry."""
    first, second, third = (encoded(scene_picture(40 + number), "PNG") for number in range(3))
    ok = "a whole picture beside a broken sample"

    members = {"a.png": first, "a.txt": b"a", "b.txt": b"b", "c.png": third, "c.txt": b"c"}
    (folder / "missing-member.tar").write_bytes(_tar(members))
    yield Entry("missing-member.tar", "ok", ok, member="a.png", size=(64, 64))
    yield Entry("missing-member.tar", "failed", "b.txt has no picture", member="b.png")
    yield Entry("missing-member.tar", "ok", ok, member="c.png", size=(64, 64))

    kept = len(_tar({"a.png": first}, closed=False)) + _BLOCK + len(second) // 2
    (folder / "truncated.tar").write_bytes(_tar({"a.png": first, "b.png": second})[:kept])
    yield Entry("truncated.tar", "ok", ok, member="a.png", size=(64, 64))
    yield Entry("truncated.tar", "failed", "the archive ends inside it", member="b.png")

    (folder / "escape.tar").write_bytes(_tar({"a.png": first, "../../escape.png": second}))
    yield Entry("escape.tar", "ok", ok, member="a.png", size=(64, 64))
    yield Entry("escape.tar", "failed", "its name leaves the folder", member="../../escape.png")


def _tar(members: Mapping[str, bytes], *, closed: bool = True) -> bytes:
    """An archive of the members in order; the same bytes every time."""
    stream = BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, BytesIO(content))
        end = archive.offset
    return stream.getvalue() if closed else stream.getvalue()[:end]
