"""A captioner that answers by a script, because it knows the scene behind every picture."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlv_core.protocols import Caption, Conditioning, Encoded
from vlv_core.specs import View
from vlv_plugins.scenes.pictures import pictures
from vlv_plugins.scenes.render import render
from vlv_plugins.scenes.splits import scenes
from vlv_plugins.scenes.world import Scene, World

Answer = Callable[[Scene], str]
Redraw = Callable[[Scene], Scene]


class Scripted:
    """Says `answer(scene)` of each picture, and draws `redraw(scene)` from its embedding.

    From a caption it draws what the caption's own scene looks like, for captions it has said.
    """

    name, domain, view = "scripted@0", "scenes, and it has seen them all", View(size=64)

    def __init__(
        self,
        world: World,
        answer: Answer,
        *,
        known: dict[str, int],
        redraw: Redraw = lambda scene: scene,
        finish: str = "eos",
    ) -> None:
        self.answer, self.redraw, self.finish = answer, redraw, finish
        self.scenes: list[Scene] = []
        self.rows: dict[bytes, int] = {}
        for split, count in known.items():
            drawn = pictures(world, split, range(count))
            for scene, picture in zip(scenes(world, split, range(count)), drawn, strict=True):
                self.rows[picture.tobytes()] = len(self.scenes)
                self.scenes.append(scene)
        self.said: dict[str, Scene] = {}
        self.guidances: list[float] = []
        self.batches: list[int] = []

    def encode(self, given: NDArray[np.uint8]) -> Encoded:
        rows = np.array([self.rows[picture.tobytes()] for picture in given], np.float32)
        z = rows[:, None, None]
        return Encoded(z, z, None, z)

    def caption(self, given: Any, *, options: Any) -> list[Caption]:
        assert options is None
        encoded = given if isinstance(given, Encoded) else self.encode(given)
        self.batches.append(len(encoded))
        answers = []
        for row in encoded.z[:, 0, 0]:
            scene = self.scenes[int(row)]
            text = self.answer(scene)
            self.said[text] = scene
            answers.append(Caption(text, (0,), self.finish, 0.0))
        return answers

    def from_text(self, captions: Sequence[str]) -> Conditioning:
        rows = [float(self.scenes.index(self.said[text])) for text in captions]
        return Conditioning(np.array(rows, np.float32)[:, None, None])

    def reconstruct(
        self, given: Any, *, seed: int, steps: int, guidance: float, keys: Sequence[int]
    ) -> NDArray[np.uint8]:
        assert len(keys) == len(given.context)
        self.guidances.append(guidance)
        drawn = [self.scenes[int(row)] for row in given.context[:, 0, 0]]
        if isinstance(given, Encoded):
            drawn = [self.redraw(scene) for scene in drawn]
        return render(drawn)
