"""`--random-weights`: try a recipe with nothing but what is installed."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from vlv_core.errors import ConfigError
from vlv_core.recipe import Data, Recipe, Stage
from vlv_core.registry import Plugins

BATCH = 2
"""pictures of a trial's step: its point is that everything fits together, not speed"""


def trial(
    recipe: Recipe, *, plugins: Plugins, kept: Collection[str] = ()
) -> tuple[Recipe, list[str]]:
    """The recipe with small batches and data that needs no files, and what was changed.

    `kept` are keys that the user set, such as "stage1.batch"; they stay. Raises ConfigError if no
    plugin offers such data.
    """
    said = []
    for name in ("stage1", "stage2"):
        stage: Stage | None = getattr(recipe, name)
        if stage is None:
            continue
        small = stage
        if not plugins.get("dataset", stage.data.dataset).spec.synthetic:
            data = Data(dataset=_synthetic(plugins))
            said.append(f"{name}: data {data.dataset!r} instead of {stage.data.dataset!r}")
            small = replace(small, data=data)
        if f"{name}.batch" not in kept and stage.batch > BATCH:
            said.append(f"{name}: batch {BATCH} instead of {stage.batch} (--set {name}.batch=N)")
            small = replace(small, batch=BATCH, accumulate=1)
        changes: dict[str, Any] = {name: small}
        recipe = replace(recipe, **changes)
    return recipe, said


def _synthetic(plugins: Plugins) -> str:
    names = [item.spec.name for item in plugins.all("dataset") if item.spec.synthetic]
    if not names:
        raise ConfigError(
            "no dataset here needs no files, so the recipe cannot be tried without its data",
            hint="name data that is here with --set stage1.data.dataset=...",
        )
    return names[0]
