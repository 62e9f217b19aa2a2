"""Pictures redrawn from their embeddings and from their captions, as the oracle reads them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlv_core.evaluation import Watcher
from vlv_core.preprocess import views
from vlv_core.specs import View
from vlv_core.strips import Line, Row
from vlv_plugins.scenes.captioning import REGISTER, Figures, named
from vlv_plugins.scenes.config import ScenesEvalConfig
from vlv_plugins.scenes.estimates import aggregate
from vlv_plugins.scenes.facts import Facts
from vlv_plugins.scenes.marks import marks
from vlv_plugins.scenes.pictures import pictures
from vlv_plugins.scenes.scoring import Score, score
from vlv_plugins.scenes.splits import scenes
from vlv_plugins.scenes.vocabulary import CANVAS
from vlv_plugins.scenes.world import Scene, World

SPLIT = "iid"
SOURCES = ("original", "embedding", "caption")
"""what the oracle is shown; of the originals it gives its own limit"""

Pictures = NDArray[np.uint8]


def redraw(
    captioner: Any, oracle: Any, world: World, options: ScenesEvalConfig, *, watcher: Watcher
) -> dict[str, Figures]:
    """The figures of each of `SOURCES`; `oracle.read(pictures)` gives a Facts a picture."""
    scores: dict[str, list[Score]] = {source: [] for source in SOURCES}
    count, what = options.reconstructions, f"drawings at guidance {options.guidance:g}"
    for start in range(0, count, options.batch):
        indices = range(start, min(start + options.batch, count))
        drawn, texts = draw(captioner, world, indices, options)
        truth = scenes(world, SPLIT, indices)
        read = {source: oracle.read(each) for source, each in drawn.items()}
        for source, facts in read.items():
            scores[source] += [score(*pair, REGISTER) for pair in zip(facts, truth, strict=True)]
        for row in range(min(len(indices), max(0, options.shown - start))):
            seen = {source: facts[row] for source, facts in read.items()}
            shown = tuple(each[row] for each in drawn.values())
            watcher.show(Row(shown, _lines(texts[row], seen, truth[row])))
        watcher.progress(what, indices.stop, count)
    return {
        source: named(aggregate(each, seed=options.seed), count=count)
        for source, each in scores.items()
    }


def draw(
    captioner: Any, world: World, indices: range, options: ScenesEvalConfig
) -> tuple[dict[str, Pictures], list[str]]:
    """The pictures of each source uint8 (B, 64, 64, 3), and the captions."""
    originals = pictures(world, SPLIT, indices)
    encoded = captioner.encode(originals)
    texts = [said.text for said in captioner.caption(encoded, options=None)]

    def drawn(source: Any) -> Pictures:
        redrawn = captioner.reconstruct(
            source,
            seed=options.seed,
            steps=options.steps,
            guidance=options.guidance,
            keys=indices,
        )
        # Models of another view draw in their own size; the oracle reads the world's.
        return views(redrawn, View(size=CANVAS))

    answers = (originals, drawn(encoded), drawn(captioner.from_text(texts)))
    return dict(zip(SOURCES, answers, strict=True)), texts


def _lines(text: str, seen: dict[str, Facts], scene: Scene) -> list[Line]:
    """The caption with its marks, and how much of the scene is in each drawing."""
    lines = marks(text, scene)
    for source in SOURCES[1:]:
        found = score(seen[source], scene, REGISTER)
        objects = f"{found.objects.matched} of {found.objects.true} objects"
        lines.append(Line(f"from the {source}: {objects} as they were", found.exact))
    return lines
