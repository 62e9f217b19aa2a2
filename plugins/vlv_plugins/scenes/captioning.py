"""Captions of a split's pictures, and their figures."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vlv_core.cider import cider_d, words
from vlv_core.evaluation import Watcher
from vlv_core.protocols import Caption
from vlv_plugins.scenes.captions import caption
from vlv_plugins.scenes.estimates import Estimate, aggregate, averages
from vlv_plugins.scenes.pictures import pictures
from vlv_plugins.scenes.scoring import score
from vlv_plugins.scenes.splits import scenes
from vlv_plugins.scenes.templates import Register
from vlv_plugins.scenes.world import Scene, World

REGISTER: Register = "dense"
"""what a captioner is taught, and answers in"""

REFERENCES = 5
"""captions of each scene that CIDEr-D compares with, as many as COCO has"""

Figures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Captioned:
    """Scenes and what a captioner said of their pictures."""

    scenes: Sequence[Scene]
    captions: Sequence[Caption]
    references: Sequence[Sequence[str]]

    @classmethod
    def of(
        cls,
        captioner: Any,
        world: World,
        split: str,
        indices: Sequence[int],
        *,
        batch: int,
        watcher: Watcher,
    ) -> "Captioned":
        """Caption the pictures at `indices` of a split, as the captioner does by itself."""
        said: list[Caption] = []
        for start in range(0, len(indices), batch):
            views = pictures(world, split, indices[start : start + batch])
            said += captioner.caption(views, options=None)
            watcher.progress(f"captions of {split}", len(said), len(indices))
        drawn = scenes(world, split, indices)
        pairs = zip(drawn, indices, strict=True)
        return cls(drawn, said, [references(scene, index) for scene, index in pairs])

    def figures(self, *, seed: int) -> Figures:
        """Rates of right facts, CIDEr-D, and what the captions are like."""
        pairs = list(zip(self.captions, self.scenes, strict=True))
        rates = aggregate([score(said.text, scene, REGISTER) for said, scene in pairs], seed=seed)
        texts = [said.text for said in self.captions]
        means = averages(
            {
                "cider_d": cider_d(texts, self.references),
                "words": [float(len(words(text))) for text in texts],
                "repetition": self._ended("repetition"),
                "unfinished": self._ended("length"),
            },
            seed=seed,
        )
        return named(rates | means, count=len(pairs))

    def _ended(self, reason: str) -> list[float]:
        return [float(said.finish_reason == reason) for said in self.captions]


def references(scene: Scene, index: int) -> list[str]:
    """True captions in several wordings."""
    # Other variants for each scene, so that every wording is among the references.
    first = REFERENCES * index
    return [
        caption(scene, REGISTER, variant=variant % 2**32)
        for variant in range(first, first + REFERENCES)
    ]


def named(estimates: dict[str, Estimate], *, count: int) -> Figures:
    """Estimates as plain data: value, low, high, and n, the pictures that they rest on."""
    return {name: {**asdict(estimate), "n": count} for name, estimate in estimates.items()}
