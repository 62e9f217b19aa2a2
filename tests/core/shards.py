"""Tar shards for tests, by the standard library's writer."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image


def png(value: int = 0, size: tuple[int, int] = (4, 4)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (value, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def tar(path: Path, files: Mapping[str, Any], *, format: int = tarfile.PAX_FORMAT) -> Path:
    """Members in order; tables become JSON, text UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as archive:
        for name, content in files.items():
            data = content
            if isinstance(content, Mapping):
                data = json.dumps(content).encode()
            elif isinstance(content, str):
                data = content.encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def plain(count: int, *, start: int = 0) -> dict[str, Any]:
    """Samples as img2dataset writes them; the picture's red value is its number."""
    files: dict[str, Any] = {}
    for number in range(start, start + count):
        key = f"{number:09d}"
        files[f"{key}.png"] = png(number % 256)
        files[f"{key}.txt"] = f"words of {number}\n"
        files[f"{key}.json"] = {
            "key": key,
            "original_width": 500 + number,
            "original_height": 520,
            "pwatermark": number / 10,
            "caption": f"more words of {number}",
        }
    return files
