"""The whole zoo and its list, `zoo.json`."""

import json
from dataclasses import asdict
from pathlib import Path

from vlv_core.errors import UsageError
from vlv_plugins.scenes.zoo.archives import write_archives
from vlv_plugins.scenes.zoo.broken import write_broken
from vlv_plugins.scenes.zoo.entry import Entry
from vlv_plugins.scenes.zoo.readable import write_readable

LISTING = "zoo.json"


def write_zoo(folder: Path) -> list[Entry]:
    """Write every input into `folder`, and `zoo.json` last: {"entries": [...]}, each an `Entry`.

    Raises UsageError unless the folder is new or empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{str(folder)!r} is not empty; the zoo needs a folder of its own")
    folder.mkdir(parents=True, exist_ok=True)
    entries = [*write_readable(folder), *write_broken(folder), *write_archives(folder)]
    listing = json.dumps({"entries": [asdict(entry) for entry in entries]}, indent=1)
    unfinished = folder / f"{LISTING}.partial"
    unfinished.write_text(f"{listing}\n", encoding="utf-8")
    unfinished.rename(folder / LISTING)
    return entries


def read_zoo(folder: Path) -> list[Entry]:
    """The entries that `write_zoo` listed."""
    listed = json.loads((folder / LISTING).read_text(encoding="utf-8"))["entries"]
    return [Entry(**{**item, "size": item["size"] and tuple(item["size"])}) for item in listed]
