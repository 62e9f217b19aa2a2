"""What a training starts from: a composed model with its first weights, and its datasets."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from vlv_core.compose import Choice, choices_of, compose
from vlv_core.config import configure
from vlv_core.errors import ConfigError
from vlv_core.hub import fetch
from vlv_core.loading import find_model
from vlv_core.model import VLV
from vlv_core.model_folder import ROLE_OF, load_part, read_manifest
from vlv_core.origins import MODEL, Origin, load_pretrained
from vlv_core.protocols import Dataset
from vlv_core.recipe import Data, Part, Recipe
from vlv_core.registry import Plugins
from vlv_core.specs import ComponentSpec, DecoderSpec, Source, resolve


@dataclass(frozen=True)
class Start:
    """A model before its training."""

    model: VLV
    choices: dict[str, Choice]
    origins: dict[str, Origin] = field(default_factory=dict)
    """by part, of those that have other than random weights"""


def start_model(
    recipe: Recipe, *, plugins: Plugins, root: Path, random_weights: bool = False
) -> Start:
    """The recipe's model, random by its seed, with the weights that its parts name.

    `root` is the recipe's folder, where relative `weights` start. With `random_weights` nothing is
    read or fetched. Raises ConfigError for a part whose weights are of another plugin, and what
    fetching and reading raise.
    """
    choices = _choices(recipe, plugins=plugins, root=root, offline=random_weights)
    torch.manual_seed(recipe.seed)
    start = Start(compose(choices, view=recipe.view), choices)
    for name, module in start.model.parts() if not random_weights else ():
        role = ROLE_OF.get(name, name)
        part, choice = recipe.parts()[role], choices[role]
        if part.weights:
            origin = _from_model(module, name, part, choice=choice, plugins=plugins, root=root)
        elif reference := _pretrained(choice.spec, name):
            source = _pinned(resolve(reference)(choice.config), part)
            origin = load_pretrained(module, name, source, root=root)
        else:
            continue
        start.origins[name] = origin
    return start


def outline(recipe: Recipe, *, plugins: Plugins, root: Path, fetching: bool = True) -> Start:
    """The recipe's model on the meta device: every size, no memory, no weights.

    Without `fetching`, configurations come from this machine alone.
    """
    choices = _choices(recipe, plugins=plugins, root=root, offline=not fetching)
    with torch.device("meta"):
        return Start(compose(choices, view=recipe.view), choices)


def open_dataset(data: Data, *, plugins: Plugins, root: Path) -> Dataset:
    """The dataset that a stage names. Raises PluginError, ConfigError or DataError."""
    spec = plugins.get("dataset", data.dataset).spec
    dataset: Dataset = resolve(spec.open)(configure(spec.config, data.options, "data"), root)
    return dataset


def _choices(recipe: Recipe, *, plugins: Plugins, root: Path, offline: bool) -> dict[str, Choice]:
    """The recipe's choices, with what they leave to the pretrained models' own files filled in."""
    choices = choices_of(recipe, plugins=plugins)
    for role, choice in choices.items():
        if choice.spec.complete is None:
            continue
        part = recipe.parts()[role]

        def here(source: Source, part: Part = part) -> Path:
            return fetch(_pinned(source, part), root=root, offline=offline).folder

        completed = resolve(choice.spec.complete)(choice.config, here)
        choices[role] = replace(choice, config=completed)
    return choices


def _pretrained(spec: ComponentSpec, part: str) -> str | None:
    """What names the source of a part's weights."""
    own = spec.diffusion_pretrained if isinstance(spec, DecoderSpec) else None
    return own if own and part == "diffusion" else spec.pretrained


def _pinned(source: Source, part: Part) -> Source:
    return replace(source, revision=part.revision or source.revision)


def _from_model(
    module: Any, name: str, part: Part, *, choice: Choice, plugins: Plugins, root: Path
) -> Origin:
    """Weights from a model folder or a bundled model."""
    beside = root / part.weights
    folder = beside if beside.is_dir() else find_model(part.weights, plugins=plugins)
    entry = read_manifest(folder).entry(name)
    if entry.plugin != choice.spec.name:
        raise ConfigError(
            f"{name}: the weights in '{folder}' are of {entry.plugin!r}, "
            f"but the recipe says {choice.spec.name!r}"
        )
    load_part(module, folder, name, entry, plugins=plugins)
    bundled = not beside.is_dir() and not Path(part.weights).is_dir()
    filled = frozenset(module.state_dict())
    return Origin(Source(MODEL + part.weights), entry.digest, filled, portable=bundled)
