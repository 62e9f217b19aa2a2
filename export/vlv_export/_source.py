"""What is exported: a trained model's folder, or a recipe's architecture with random weights."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vlv_core import model_folder
from vlv_core.captioner import Captioner
from vlv_core.compose import ROLES, Choice, choose, compose
from vlv_core.config import to_dict
from vlv_core.errors import ModelError, UsageError
from vlv_core.loading import find_model
from vlv_core.model import PARTS, VLV
from vlv_core.model_folder import ROLE_OF
from vlv_core.recipe import Recipe, load_recipe
from vlv_core.registry import Plugins
from vlv_core.specs import View
from vlv_core.torch_backend import TorchBackend
from vlv_core.training.start import outline
from vlv_core.weights import distinct
from vlv_export.exporters import Weights
from vlv_export.manifest import MANIFEST

RANDOM_DOMAIN = "nothing: its weights are random"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model that can be built, and what is known of it without its weights."""

    name: str
    licence: str
    domain: str
    random: bool
    """whether its weights are"""
    identity: dict[str, Any]
    """all that decides its weights and architecture, as JSON knows it"""
    digests: dict[str, str]
    """part -> sha256 of its weights; empty for random ones"""
    choices: dict[str, Choice] = field(repr=False)
    view: View
    folder: Path | None
    """of a trained model"""
    seed: int = 0
    """of random weights"""

    def sketch(self, *, diffusion: bool) -> VLV:
        """The model on the meta device: every size, no memory."""
        with torch.device("meta"):
            return compose(self.choices, view=self.view, diffusion=diffusion)

    def open(self, *, plugins: Plugins, diffusion: bool) -> Captioner:
        """The model with its weights, on the CPU in float32. Raises ModelError for bad folders."""
        if self.folder is None:
            torch.manual_seed(self.seed)
            model = compose(self.choices, view=self.view, diffusion=diffusion)
        else:
            model, _ = model_folder.load_model(self.folder, plugins=plugins, diffusion=diffusion)
        model.eval().requires_grad_(False)
        return Captioner(TorchBackend(model), name=self.name, domain=self.domain, view=model.view)


def find_source(name: str, *, plugins: Plugins, diffusion: bool, random_weights: bool) -> Source:
    """The source that MODEL means; reads no weights.

    Raises UsageError for a recipe without `random_weights` and a model with it, ModelError for what
    is neither a model's name, nor its folder, nor a recipe.
    """
    path = Path(name)
    if path.is_file():
        if not random_weights:
            raise UsageError(
                f"{name!r} is a recipe, which holds no weights",
                hint="give the folder of a trained model, or export its architecture with "
                "--random-weights",
            )
        return _of_recipe(load_recipe(path), plugins=plugins, root=path.parent)
    if random_weights:
        raise UsageError(
            f"--random-weights needs a recipe's file, and {name!r} is none",
            hint="leave it out to export the model with its own weights",
        )
    folder = find_model(name, plugins=plugins)
    if (folder / MANIFEST).is_file():
        raise ModelError(f"{folder} is an artefact already", hint="export the model it came from")
    return _of_folder(folder, plugins=plugins, diffusion=diffusion)


def weights_of(model: VLV) -> Weights:
    """Numbers of all tensors, tied ones once."""
    matrices = rest = 0
    for tensor in distinct(model).values():
        if tensor.ndim == 2:
            matrices += tensor.numel()
        else:
            rest += tensor.numel()
    return Weights(matrices, rest)


def _of_folder(folder: Path, *, plugins: Plugins, diffusion: bool) -> Source:
    manifest = model_folder.read_manifest(folder)
    wanted = [part for part in PARTS if part != "diffusion" or diffusion]
    entries = {part: manifest.entry(part) for part in wanted}
    named = {ROLE_OF.get(part, part): entry for part, entry in entries.items()}
    return Source(
        name=manifest.name,
        licence=manifest.licence,
        domain=manifest.domain,
        random=False,
        identity={
            "view": to_dict(manifest.view),
            "parts": {part: to_dict(entry) for part, entry in entries.items()},
        },
        digests={part: entry.digest for part, entry in entries.items()},
        choices={
            role: choose(role, named[role].plugin, named[role].config, plugins=plugins)
            for role in ROLES
        },
        view=manifest.view,
        folder=folder,
    )


def _of_recipe(recipe: Recipe, *, plugins: Plugins, root: Path) -> Source:
    choices = outline(recipe, plugins=plugins, root=root, fetching=False).choices
    configs = {
        role: [choice.spec.name, {} if choice.config is None else to_dict(choice.config)]
        for role, choice in choices.items()
    }
    return Source(
        name=recipe.name,
        licence=recipe.licence,
        domain=RANDOM_DOMAIN,
        random=True,
        identity={"view": to_dict(recipe.view), "parts": configs, "seed": recipe.seed},
        digests={},
        choices=choices,
        view=recipe.view,
        folder=None,
        seed=recipe.seed,
    )
