"""A captioner without a model: its words are a function of the pixels alone."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlv_core.protocols import Caption, Encoded
from vlv_core.specs import View

VIEW = View(size=8)


def words(view: NDArray[np.uint8]) -> str:
    """What the fake says of a view."""
    return f"a picture of {sha256(view.tobytes()).hexdigest()[:12]}"


def png(number: int, *, edge: int = 9) -> bytes:
    """An encoded picture that tells its number in its red and green."""
    stream = BytesIO()
    Image.new("RGB", (edge, edge), (number % 256, number // 256, 7)).save(stream, "PNG")
    return stream.getvalue()


def said_of(number: int) -> str:
    """The fake's words for `png(number)`."""
    return words(np.array(Image.open(BytesIO(png(number))).resize((8, 8))))


def put(folder: Path, *names: str) -> list[Path]:
    """Write numbered pictures and return their paths; parents are made."""
    paths = [folder / name for name in names]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    return paths


class FakeCaptioner:
    """Remembers its calls; `trouble`, given the views, may raise or sleep."""

    domain = "nothing at all"

    def __init__(
        self, *, name: str = "fake-1", trouble: Callable[[Any], None] = lambda views: None
    ) -> None:
        self.name, self.view, self.trouble = name, VIEW, trouble
        self.batches: list[int] = []
        self.keys: list[int] = []
        self.given: list[Any] = []

    def caption(
        self, pictures: Any, *, options: Any = None, keys: Sequence[int] | None = None
    ) -> list[Caption]:
        assert all(view.shape == (8, 8, 3) and view.dtype == np.uint8 for view in pictures)
        self.trouble(pictures)
        self.batches.append(len(pictures))
        self.keys += keys or []
        self.given.append(options)
        return [Caption(words(view), (1, 2, 3), "eos", -0.5) for view in pictures]

    def encode(self, pictures: Any) -> Encoded:
        empty = np.zeros((len(pictures), 1, 1), np.float32)
        return Encoded(empty, empty, None, empty)
