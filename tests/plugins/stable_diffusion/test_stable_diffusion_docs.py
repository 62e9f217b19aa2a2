"""The page's recipe composes, and the page names what there is."""

import re
import tomllib
from dataclasses import fields

import torch

from tests.plugins.stable_diffusion.tiny import SPECS, local
from tests.source import ROOT
from vlv_core.compose import Choice, choose, compose
from vlv_core.config import configure, convert
from vlv_core.plugins import load_plugins
from vlv_core.recipe import Recipe
from vlv_core.specs import resolve
from vlv_plugins._hub import presets

PAGE = (ROOT / "docs" / "stable-diffusion.md").read_text(encoding="utf-8")


def test_the_recipe_composes_on_the_meta_device() -> None:
    found = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert found
    recipe = convert(Recipe, tomllib.loads(found[1]), "page")
    plugins = load_plugins(third_party=False)
    choices = {
        role: choose(role, part.plugin, part.options, plugins=plugins)
        for role, part in recipe.parts().items()
        if role != "decoder"
    }
    spec = SPECS[recipe.decoder.plugin]
    assert spec.complete
    config = configure(spec.config, recipe.decoder.options, "decoder")
    choices["decoder"] = Choice(spec, resolve(spec.complete)(config, local))
    with torch.device("meta"):
        model = compose(choices, view=recipe.view)
    assert model.bottleneck.dim == 768 + 1280
    assert model.diffusion.denoiser.is_gradient_checkpointing


def test_the_page_names_decoders_options_and_presets() -> None:
    options = {item.name for spec in SPECS.values() for item in fields(spec.config or object)}
    for name in (*SPECS, *options, *presets("vlv_plugins.stable_diffusion")):
        assert f"`{name}`" in PAGE, f"{name} is not in the page"
    assert len(PAGE.splitlines()) <= 80


def test_specs_say_what_they_need() -> None:
    for spec in SPECS.values():
        assert spec.requires == ("torch", "transformers", "diffusers") and spec.extra == "models"
        assert spec.summary and spec.pretrained
