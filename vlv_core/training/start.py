"""What a training starts from: a composed model with its first weights, and its datasets."""

from pathlib import Path
from typing import Any

import torch

from vlv_core.compose import Choice, choices_of, compose
from vlv_core.config import configure
from vlv_core.errors import ConfigError
from vlv_core.loading import find_model
from vlv_core.model import VLV
from vlv_core.model_folder import ROLE_OF, load_part, read_manifest
from vlv_core.protocols import Dataset
from vlv_core.recipe import Data, Recipe
from vlv_core.registry import Plugins
from vlv_core.specs import resolve


def start_model(recipe: Recipe, *, plugins: Plugins, root: Path) -> tuple[VLV, dict[str, Choice]]:
    """The recipe's model, random by its seed, with the weights that its parts name.

    `root` is the recipe's folder, where relative `weights` start. Raises ConfigError for a part
    whose weights are of another plugin, or that has pretrained ones which the recipe leaves out.
    """
    choices = choices_of(recipe, plugins=plugins)
    torch.manual_seed(recipe.seed)
    model = compose(choices, view=recipe.view)
    for name, module in model.parts():
        role = ROLE_OF.get(name, name)
        part, choice = recipe.parts()[role], choices[role]
        if part.weights:
            _load(module, name, part.weights, choice=choice, plugins=plugins, root=root)
        elif choice.spec.pretrained:
            source = resolve(choice.spec.pretrained)(choice.config)
            raise ConfigError(
                f"{role} {choice.spec.name!r} has pretrained weights in {source.location!r}, and "
                "the recipe does not say where they are here",
                hint=f"set {role}.weights to a model folder that holds them",
            )
    return model, choices


def open_dataset(data: Data, *, plugins: Plugins, root: Path) -> Dataset:
    """The dataset that a stage names. Raises PluginError, ConfigError or DataError."""
    spec = plugins.get("dataset", data.dataset).spec
    dataset: Dataset = resolve(spec.open)(configure(spec.config, data.options, "data"), root)
    return dataset


def _load(
    module: Any, name: str, weights: str, *, choice: Choice, plugins: Plugins, root: Path
) -> None:
    beside = root / weights
    folder = beside if beside.is_dir() else find_model(weights, plugins=plugins)
    entry = read_manifest(folder).entry(name)
    if entry.plugin != choice.spec.name:
        raise ConfigError(
            f"{name}: the weights in '{folder}' are of {entry.plugin!r}, "
            f"but the recipe says {choice.spec.name!r}"
        )
    load_part(module, folder, name, entry)
