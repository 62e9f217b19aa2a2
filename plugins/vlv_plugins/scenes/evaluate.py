"""The evaluator `scenes`: captions on every split, and reconstructions as the oracle reads them.

| figures | of |
|---|---|
| splits.SPLIT.FIGURE | captions |
| reconstruction.SOURCE.FIGURE | drawings from embedding, caption; original: the oracle's limit |
| guidance_SOURCE.GUIDANCE.FIGURE | drawings, with `full` only |
"""

from dataclasses import replace
from typing import Any

from vlv_core.evaluation import Watcher
from vlv_plugins.scenes.config import ScenesEvalConfig
from vlv_plugins.scenes.splits import splits
from vlv_plugins.scenes.world import WORLDS, World

SWEEP = (1.0, 1.5, 2.0, 3.0, 5.0)
"""guidances that `full` compares"""

FIRST_SPLIT = "iid"


def evaluate(
    captioner: Any, options: ScenesEvalConfig, *, watcher: Watcher | None = None
) -> dict[str, Any]:
    """All figures, each with its bootstrap interval.

    Raises ModelError if pictures are to be redrawn and the world has no oracle.
    """
    watcher, world = watcher or Watcher(), WORLDS[options.world]
    # First of all, so that a missing oracle is told before minutes of captions.
    oracle = _oracle(world) if options.reconstructions else None
    figures: dict[str, Any] = {"splits": _captions(captioner, world, options, watcher)}
    if oracle:
        figures |= _reconstructions(captioner, oracle, world, options, watcher)
    return figures


def _oracle(world: World) -> Any:
    """Imports torch."""
    from vlv_plugins.scenes._oracle import Oracle

    return Oracle.load(world)


def _captions(
    captioner: Any, world: World, options: ScenesEvalConfig, watcher: Watcher
) -> dict[str, Any]:
    from vlv_plugins.scenes.captioning import Captioned

    chosen = options.splits or [name for name in splits(world) if not name.startswith("train")]
    counts = {
        name: options.captions
        if options.full or name == FIRST_SPLIT
        else max(1, options.captions // 4)
        for name in chosen
    }
    return {
        name: Captioned.of(
            captioner, world, name, range(count), batch=options.batch, watcher=watcher
        ).figures(seed=options.seed)
        for name, count in counts.items()
    }


def _reconstructions(
    captioner: Any, oracle: Any, world: World, options: ScenesEvalConfig, watcher: Watcher
) -> dict[str, Any]:
    from vlv_plugins.scenes.redrawing import redraw

    figures = {"reconstruction": redraw(captioner, oracle, world, options, watcher=watcher)}
    if not options.full:
        return figures
    for guidance in SWEEP:
        changed = replace(options, guidance=guidance, shown=0)
        swept = redraw(captioner, oracle, world, changed, watcher=watcher)
        for name in ("embedding", "caption"):
            figures.setdefault(f"guidance_{name}", {})[f"{guidance:g}"] = swept[name]
    return figures
