"""Captions as .txt files beside their pictures, as trainers of image models read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from vlv_core.errors import UsageError
from vlv_core.jobs.inputs import Input


class Sidecars:
    """Writes `photo.txt` beside `photo.jpg`; where two pictures of a job would share one, each has
    its whole name before the ending instead: `photo.jpg.txt`."""

    def __init__(self, inputs: Iterable[Input], *, overwrite: bool = False) -> None:
        """Raises UsageError for a picture inside an archive, which has no beside."""
        self.overwrite = overwrite
        self.kept = 0
        """files that held other words and were left alone"""
        stems: Counter[Path] = Counter()
        for entry in inputs:
            if entry.path != entry.key and entry.error is None:
                raise UsageError(
                    f"{entry.key!r} lies in an archive, where no .txt can be put beside it",
                    hint="leave out --sidecar, or unpack the archive",
                )
            stems[Path(entry.path).with_suffix("")] += 1
        self._shared = {stem for stem, count in stems.items() if count > 1}

    def path(self, entry: Input) -> Path:
        """Where the caption of a picture goes."""
        picture = Path(entry.path)
        whole = picture.with_suffix("") in self._shared or picture.suffix == ".txt"
        return picture.with_name(f"{picture.name}.txt") if whole else picture.with_suffix(".txt")

    def exists(self, entry: Input) -> bool:
        return self.path(entry).exists()

    def write(self, entry: Input, caption: str) -> None:
        """Write a caption, or leave a file that exists. Raises OSError."""
        path = self.path(entry)
        data = f"{caption}\n".encode()
        if path.exists() and not self.overwrite:
            self.kept += path.read_bytes() != data
            return
        partial = path.with_name(f".{path.name}.partial")
        try:
            partial.write_bytes(data)
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
