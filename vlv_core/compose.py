"""From choices of components to a `VLV`: architecture only, no weights read."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vlv_core.config import configure
from vlv_core.model import PARTS, VLV
from vlv_core.recipe import Recipe
from vlv_core.registry import Plugins, require
from vlv_core.specs import ComponentSpec, DecoderSpec, Near, View, resolve

ROLES = ("encoder", "bottleneck", "decoder", "connector", "head")


@dataclass(frozen=True)
class Choice:
    """A component that was chosen, with its options resolved."""

    spec: ComponentSpec
    config: Any
    """the component's own dataclass, or None if it has none"""


def choose(role: str, name: str, options: Mapping[str, Any], *, plugins: Plugins) -> Choice:
    """Look a component up and check its options.

    Raises PluginError for an unknown or ambiguous name, MissingExtra for an absent library,
    ConfigError for options that it does not have.
    """
    spec: ComponentSpec = plugins.get(role, name).spec
    require(spec, f"{role} {name!r}")
    return Choice(spec, configure(spec.config, options, role))


def choices_of(recipe: Recipe, *, plugins: Plugins) -> dict[str, Choice]:
    """A recipe's five choices by role."""
    return {
        role: choose(role, part.plugin, part.options, plugins=plugins)
        for role, part in recipe.parts().items()
    }


def compose(choices: Mapping[str, Choice], *, view: View, diffusion: bool = True) -> VLV:
    """Build the parts against each other's sizes. Works on the meta device.

    Raises ConfigError where neighbours' sizes differ.
    """
    return VLV(view=view, **build_parts(choices, view_size=view.size, diffusion=diffusion))


def build_parts(
    choices: Mapping[str, Choice], *, view_size: int, diffusion: bool = True
) -> dict[str, Any]:
    """The parts by name; connector and head only if there are choices for them.

    Encoder, condition and head come first; bottleneck and connector are built between them.
    """
    near, built = Near(view_size=view_size), dict[str, Any]()
    built["encoder"] = encoder = _build(choices["encoder"], near)
    built["condition"] = condition = _build(choices["decoder"], near)
    if "head" in choices:
        built["head"] = _build(choices["head"], near)
    near = replace(
        near,
        num_tokens=encoder.num_tokens,
        token_dim=encoder.dim,
        embedding_dim=condition.embedding_dim,
        max_queries=condition.max_queries,
        context_dim=condition.context_dim,
        head_dim=built["head"].dim if "head" in built else 0,
    )
    built["bottleneck"] = _build(choices["bottleneck"], near)
    near = replace(near, num_queries=built["bottleneck"].num_queries)
    if "connector" in choices:
        built["connector"] = _build(choices["connector"], near)
    if diffusion:
        decoder = choices["decoder"]
        assert isinstance(decoder.spec, DecoderSpec)
        built["diffusion"] = resolve(decoder.spec.diffusion)(decoder.config, near)
    return {name: built[name] for name in PARTS if name in built}


def _build(choice: Choice, near: Near) -> Any:
    return resolve(choice.spec.build)(choice.config, near)
