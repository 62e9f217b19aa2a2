"""A model folder of random weights, a few numbers wide: it says nonsense, through every part."""

from pathlib import Path
from typing import Any

import torch

from vlv_core.compose import choose, compose
from vlv_core.model_folder import save_model
from vlv_core.plugins import load_plugins
from vlv_core.specs import View
from vlv_plugins.mini._tokenizer import train_tokenizer

SENTENCES = ("a red circle in the top left.", "plain grey background; top: a large blue star.")
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "encoder": ("mini-vit", {"width": 16, "depth": 1, "heads": 2}),
    "bottleneck": ("query", {"num_queries": 4, "depth": 1, "heads": 2}),
    "decoder": (
        "mini-t2i",
        {"text_width": 16, "text_heads": 2, "vae_width": 16, "width": 24, "depth": 1, "heads": 2},
    ),
    "connector": ("mlp", {}),
    "head": ("mini-lm", {"width": 16, "depth": 1, "heads": 2, "hidden": 24, "max_length": 24}),
}


def make(folder: Path) -> Path:
    """Write the model and return its folder."""
    torch.manual_seed(5)
    plugins = load_plugins(third_party=False)
    choices = {role: choose(role, *named, plugins=plugins) for role, named in OPTIONS.items()}
    model = compose(choices, view=View(size=64)).eval()
    for part in (model.condition, model.head):
        part.tokenizer = train_tokenizer(SENTENCES, vocab_size=300)
    save_model(model, folder, choices=choices, name="tiny", domain="random numbers alone")
    return folder
