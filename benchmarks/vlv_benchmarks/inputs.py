"""The pictures that every row is given: of the bundled world, as PNG files, and what torch says."""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from PIL import Image

from vlv_benchmarks.job import Order
from vlv_core.config import configure
from vlv_core.errors import PluginError
from vlv_core.files import write_atomically
from vlv_core.specs import resolve

LIST = "pictures.json"
WORLD = "scenes"


def write_pictures(folder: Path, order: Order, *, count: int) -> dict[str, str]:
    """Fill `folder`/pictures, unless it is full; file -> sha256 of its pixels.

    Pixels, not files: one picture is packed otherwise by another library. Raises PluginError if no
    dataset makes pictures by itself.
    """
    place = folder / "pictures"
    place.mkdir(parents=True, exist_ok=True)
    listed = folder / LIST
    if listed.is_file():
        found: dict[str, str] = json.loads(listed.read_text(encoding="utf-8"))
        if len(found) >= count and all((place / name).is_file() for name in found):
            return found
    spec = order.plugins.get("dataset", _dataset(order)).spec
    dataset = resolve(spec.open)(configure(spec.config, {}, spec.name), Path())
    digests = {}
    for index in range(count):
        picture = Image.fromarray(dataset[index].load())
        picture.save(place / f"{index:06d}.png")
        digests[f"{index:06d}.png"] = sha256(picture.tobytes()).hexdigest()
    write_atomically(listed, f"{json.dumps(digests, indent=1)}\n".encode())
    return digests


def digest_of(digests: Sequence[str]) -> str:
    """Of a list of pictures."""
    return sha256("\n".join(digests).encode()).hexdigest()


def _dataset(order: Order) -> str:
    names = [item.spec.name for item in order.plugins.all("dataset") if item.spec.synthetic]
    if not names:
        raise PluginError(
            "no dataset here makes pictures by itself, so there is nothing to measure on",
            hint="'vlv plugins' lists what was found",
        )
    return WORLD if WORLD in names else names[0]
