"""The page's recipe composes; its lists are those of the code."""

from dataclasses import fields
from pathlib import Path

from tests.source import ROOT
from vlv_core.errors import PluginError
from vlv_core.plugins import load_plugins
from vlv_core.recipe import load_recipe
from vlv_core.registry import Plugins
from vlv_core.training.start import outline
from vlv_plugins import _hub
from vlv_plugins.vision_transformers._families import FAMILIES, TWO_TOWERS
from vlv_plugins.vision_transformers.config import VisionTransformerConfig

PAGE = (ROOT / "docs/vision-transformers.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "plugins/vlv_plugins/vision_transformers/__init__.py"


def plugins() -> Plugins:
    """The installed ones, and this family where the installation does not name it yet."""
    found = load_plugins(third_party=False)
    try:
        found.get("encoder", "vision-transformers")
    except PluginError:
        return load_plugins(third_party=False, files=[PACKAGE])
    return found


def test_the_minimal_recipe_composes_without_files(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(PAGE.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    start = outline(load_recipe(recipe), plugins=plugins(), root=tmp_path, fetching=False)
    encoder = start.model.encoder
    assert (encoder.num_tokens, encoder.dim) == (256, 768)
    assert len(encoder.tower.encoder.layer) == 11
    assert start.choices["encoder"].config.architecture["model_type"] == "dinov2"
    assert all(parameter.is_meta for parameter in start.model.parameters())


def test_the_page_lists_what_there_is() -> None:
    for name in _hub.presets("vlv_plugins.vision_transformers"):
        assert f"`{name}`" in PAGE, name
    for kind in (*FAMILIES, *TWO_TOWERS):
        assert f"`{kind}`" in PAGE, kind
    for option in fields(VisionTransformerConfig):
        assert f"| `{option.name}` |" in PAGE, option.name
    assert PAGE.count("\n") <= 80
