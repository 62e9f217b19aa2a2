"""The page names every option, and its recipe composes at real size."""

import tomllib
from dataclasses import fields

import torch

from tests.source import ROOT
from vlv_core.compose import Choice, compose
from vlv_core.config import configure, convert
from vlv_core.plugins import load_plugins
from vlv_core.recipe import Recipe
from vlv_core.specs import resolve
from vlv_plugins import florence2
from vlv_plugins.florence2.config import BottleneckConfig, EncoderConfig

PAGE = (ROOT / "docs" / "florence2.md").read_text(encoding="utf-8")
SPECS = {
    "encoder": next(iter(florence2.vlv_encoders())),
    "bottleneck": next(iter(florence2.vlv_bottlenecks())),
}


def test_every_option_is_on_the_page() -> None:
    for config in (EncoderConfig, BottleneckConfig):
        for option in fields(config):
            assert f"| `{option.name}` |" in PAGE, option.name


def test_the_recipe_composes() -> None:
    text = PAGE.partition("```toml\n")[2].partition("```")[0]
    recipe = convert(Recipe, tomllib.loads(text) | {"stage1": None}, "page")
    plugins, choices = load_plugins(), {}
    for role, part in recipe.parts().items():
        spec = SPECS.get(role) or plugins.get(role, part.plugin).spec
        config = configure(spec.config, part.options, role)
        if spec.complete:
            config = resolve(spec.complete)(config, None)
        choices[role] = Choice(spec, config)
    with torch.device("meta"):
        model = compose(choices, view=recipe.view)
    assert (model.encoder.num_tokens, model.bottleneck.num_queries) == (577, 77)
    assert model.bottleneck.dim == model.condition.embedding_dim
