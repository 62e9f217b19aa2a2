"""Files from which no picture can be had."""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from vlv_plugins.scenes.zoo.entry import Entry, encoded, scene_picture

BOMB_SIDE = 20_000

_PAGE = b"<!DOCTYPE html>\n<html><body><h1>404 Not Found</h1></body></html>\n"


def write_broken(folder: Path) -> Iterator[Entry]:
    """Write the loose files whose outcome is failed or skipped."""
    (folder / "zero-bytes.jpg").touch()
    yield Entry("zero-bytes.jpg", "failed", "empty file")

    # Wide enough for the cut to fall among the pixels; half of 64 x 64 would still be header.
    whole = encoded(scene_picture(30).resize((256, 256)), "JPEG")
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    yield Entry("truncated.jpg", "failed", "the second half is missing")

    (folder / "page.jpg").write_bytes(_PAGE)
    yield Entry("page.jpg", "failed", "HTML named .jpg")

    (folder / "bomb.png").write_bytes(_bomb())
    yield Entry("bomb.png", "failed", "a header of 20,000 x 20,000 pixels: refused undecoded")

    (folder / "dangling.png").symlink_to("gone.png")
    yield Entry("dangling.png", "failed", "a link to nothing")

    (folder / "notes.txt").write_text("not a picture\n", encoding="utf-8")
    yield Entry("notes.txt", "skipped", "its ending is no picture's")

    yield _unreadable(folder)


def _bomb() -> bytes:
    """A PNG that promises 1.2 gigabytes of RGB and holds next to nothing."""
    header = struct.pack(">IIBBBBB", BOMB_SIDE, BOMB_SIDE, 8, 2, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(b"")) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def _unreadable(folder: Path) -> Entry:
    path = folder / "unreadable.png"
    scene_picture(31).save(path)
    path.chmod(0)
    if not os.access(path, os.R_OK):
        return Entry("unreadable.png", "failed", "no permission to read")
    note = "written by a user whom permission bits do not stop (root): failed for anyone else"
    return Entry("unreadable.png", "ok", "readable to this user", size=(64, 64), note=note)
