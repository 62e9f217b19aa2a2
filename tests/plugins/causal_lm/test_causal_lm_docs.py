"""The page's recipe composes and costs what it may."""

import re
from pathlib import Path

import torch

from tests.plugins.causal_lm.test_causal_lm_files import never
from tests.source import ROOT
from vlv_core.compose import Choice, choose, compose
from vlv_core.config import configure
from vlv_core.plugins import load_plugins
from vlv_core.recipe import load_recipe
from vlv_plugins import causal_lm
from vlv_plugins.causal_lm._complete import complete
from vlv_plugins.causal_lm._gguf import READ
from vlv_plugins.causal_lm._head import KINDS
from vlv_plugins.causal_lm.config import CausalLmConfig

PAGE = (ROOT / "docs" / "causal-lm.md").read_text(encoding="utf-8")
SPEC = next(iter(causal_lm.vlv_heads()))


def test_the_pages_recipe_composes(tmp_path: Path) -> None:
    block = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    (tmp_path / "recipe.toml").write_text(block[1])
    recipe = load_recipe(tmp_path / "recipe.toml")
    plugins = load_plugins(third_party=False)
    choices = {
        role: choose(role, part.plugin, part.options, plugins=plugins)
        for role, part in recipe.parts().items()
        if role != "head"
    }
    config = configure(CausalLmConfig, recipe.head.options, "head")
    assert config is not None
    choices["head"] = Choice(SPEC, complete(config, never))
    with torch.device("meta"):
        model = compose(choices, view=recipe.view)
    assert model.connector.dim == model.head.dim == 576
    assert all(".lora_" in name for name in model.head.learnable())


def test_the_page_stays_short_and_names_all_options() -> None:
    assert PAGE.count("\n") <= 80
    options = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert options == set(CausalLmConfig.__dataclass_fields__)
    assert f"{', '.join(READ[:-1])} and {READ[-1]}" in PAGE
    assert len(KINDS) == len(set(KINDS))
