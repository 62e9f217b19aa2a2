"""What a training starts from: random by the seed, or the weights that parts name."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.core.training_parts import write_recipe
from vlv_core.errors import ConfigError, ModelError
from vlv_core.model import VLV
from vlv_core.model_folder import save_model
from vlv_core.plugins import load_plugins
from vlv_core.recipe import Recipe, load_recipe
from vlv_core.registry import Plugins
from vlv_core.training.start import open_dataset, start_model


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[tuple[Recipe, Plugins, Path]]:
    recipe, plugin = write_recipe(tmp_path)
    yield load_recipe(recipe), load_plugins(files=[plugin]), tmp_path
    sys.modules.pop("vlv_tiny_parts", None)


def parts_equal(one: VLV, other: VLV) -> dict[str, bool]:
    theirs = dict(other.parts())
    return {
        name: all(
            torch.equal(a, b)
            for a, b in zip(
                module.state_dict().values(), theirs[name].state_dict().values(), strict=True
            )
        )
        for name, module in one.parts()
    }


def with_weights(recipe: Recipe, weights: str, *roles: str) -> Recipe:
    parts = {role: replace(getattr(recipe, role), weights=weights) for role in roles}
    return replace(recipe, seed=99, **parts)


def test_the_seed_decides_random_weights(tiny: tuple[Recipe, Plugins, Path]) -> None:
    recipe, plugins, root = tiny
    one = start_model(recipe, plugins=plugins, root=root).model
    torch.rand(5)
    assert all(parts_equal(one, start_model(recipe, plugins=plugins, root=root).model).values())
    other = start_model(replace(recipe, seed=8), plugins=plugins, root=root).model
    assert not any(parts_equal(one, other).values())


def test_parts_take_the_weights_that_they_name(tiny: tuple[Recipe, Plugins, Path]) -> None:
    recipe, plugins, root = tiny
    start = start_model(recipe, plugins=plugins, root=root)
    saved, choices = start.model, start.choices
    save_model(saved, root / "saved", choices=choices, name="saved")
    again = with_weights(recipe, "saved", "decoder", "head")
    equal = parts_equal(saved, start_model(again, plugins=plugins, root=root).model)
    assert equal == {
        "encoder": False,
        "bottleneck": False,
        "condition": True,
        "diffusion": True,
        "connector": False,
        "head": True,
    }


def test_weights_of_another_plugin_are_refused(tiny: tuple[Recipe, Plugins, Path]) -> None:
    recipe, plugins, root = tiny
    start = start_model(recipe, plugins=plugins, root=root)
    saved, choices = start.model, start.choices
    other = replace(choices["encoder"].spec, name="another")
    choices["encoder"] = replace(choices["encoder"], spec=other)
    save_model(saved, root / "saved", choices=choices, name="saved")
    with pytest.raises(ConfigError, match=r"encoder: the weights .* are of 'another', but the "):
        start_model(with_weights(recipe, "saved", "encoder"), plugins=plugins, root=root)


def test_weights_that_are_nowhere_are_refused(tiny: tuple[Recipe, Plugins, Path]) -> None:
    recipe, plugins, root = tiny
    with pytest.raises(ModelError, match="no model folder and no bundled model named 'nowhere'"):
        start_model(with_weights(recipe, "nowhere", "head"), plugins=plugins, root=root)


def test_pretrained_weights_that_a_part_cannot_read_are_an_error(
    tiny: tuple[Recipe, Plugins, Path],
) -> None:
    recipe, plugins, root = tiny
    (root / "encoder").mkdir()
    registered = [
        replace(item, spec=replace(item.spec, pretrained="tests.core.test_training_start:source"))
        if item.spec.name == "tiny-encoder"
        else item
        for item in plugins.registered
    ]
    plugins = replace(plugins, registered=tuple(registered))
    wanted = "encoder: TinyEncoder names pretrained weights in 'encoder', but has no load_pretrain"
    with pytest.raises(ConfigError, match=wanted):
        start_model(recipe, plugins=plugins, root=root)
    random = start_model(recipe, plugins=plugins, root=root, random_weights=True)
    assert random.origins == {}


def source(config: None) -> object:
    from vlv_core.specs import Source

    return Source("encoder")


def test_datasets_are_opened_with_checked_options(tiny: tuple[Recipe, Plugins, Path]) -> None:
    recipe, plugins, root = tiny
    assert recipe.stage1 is not None
    data = recipe.stage1.data
    assert len(open_dataset(data, plugins=plugins, root=root)) == 24
    with pytest.raises(ConfigError, match=r"data: no key 'brokn'; did you mean 'broken'"):
        open_dataset(replace(data, options={"brokn": []}), plugins=plugins, root=root)
