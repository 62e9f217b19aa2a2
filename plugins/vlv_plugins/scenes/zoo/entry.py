"""What the zoo expects of one input."""

from dataclasses import dataclass
from io import BytesIO
from typing import Literal

from PIL import Image

from vlv_plugins.scenes.render import render
from vlv_plugins.scenes.splits import scenes
from vlv_plugins.scenes.world import WORLDS

Outcome = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True)
class Entry:
    """One picture, or what stands in its place."""

    path: str
    """File relative to the zoo, with forward slashes."""
    outcome: Outcome
    """ok: can be read, in any mode; failed: ought to be a picture and is not; skipped: need not."""
    reason: str
    """Why, in words; not the text of a message."""
    member: str | None = None
    """For archives, the member that the entry is about; every sample has an entry."""
    size: tuple[int, int] | None = None
    """For ok, width and height in pixels, upright."""
    note: str | None = None


def scene_picture(index: int) -> Image.Image:
    """A rendered scene, for whatever needs an ordinary picture: RGB, 64 x 64."""
    return Image.fromarray(render(scenes(WORLDS["S"], "iid", [index]))[0])


def encoded(image: Image.Image, format: str) -> bytes:
    """The picture as a file of a format that Pillow names."""
    stream = BytesIO()
    image.save(stream, format)
    return stream.getvalue()
