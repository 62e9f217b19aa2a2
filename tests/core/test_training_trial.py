"""`--random-weights`: what it changes in a recipe, and what it leaves."""

from dataclasses import replace
from pathlib import Path

import pytest

from vlv_core.errors import ConfigError
from vlv_core.plugins import load_plugins
from vlv_core.recipe import Data, Recipe, load_recipe
from vlv_core.training.trial import trial

ROOT = Path(__file__).parents[2]


def recipe() -> Recipe:
    found = load_recipe(ROOT / "recipes" / "smoke.toml")
    assert found.stage1 is not None
    stage1 = replace(found.stage1, batch=512, accumulate=4, data=Data(dataset="folder"))
    return replace(found, stage1=stage1)


def test_absent_data_and_large_batches_are_replaced_and_said() -> None:
    tried, said = trial(recipe(), plugins=load_plugins(third_party=False))
    assert tried.stage1 is not None and tried.stage2 is not None
    assert (tried.stage1.data.dataset, tried.stage1.batch, tried.stage1.accumulate) == (
        "scenes",
        2,
        1,
    )
    assert tried.stage2.data == recipe().stage2.data  # type: ignore[union-attr]
    assert said[0] == "stage1: data 'scenes' instead of 'folder'"
    assert said[1] == "stage1: batch 2 instead of 512 (--set stage1.batch=N)"


def test_what_the_user_set_stays() -> None:
    tried, said = trial(recipe(), plugins=load_plugins(third_party=False), kept={"stage1.batch"})
    assert tried.stage1 is not None and tried.stage1.batch == 512
    assert not any("stage1: batch" in line for line in said)


def test_without_made_up_data_it_says_so() -> None:
    plugins = load_plugins(third_party=False)
    others = tuple(item for item in plugins.registered if not getattr(item.spec, "synthetic", 0))
    known = [item for item in plugins.registered if item.spec.name == "scenes"]
    bare = [replace(i, spec=replace(i.spec, synthetic=False)) for i in known if i.role == "dataset"]
    with pytest.raises(ConfigError, match="no dataset here needs no files"):
        trial(recipe(), plugins=replace(plugins, registered=(*others, *bare)))
