"""Every installed component in a tiny model, so that its parts can be captured in a second.

A component that is not named here is built with its own defaults: a new plugin is tested by being
installed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from tests.plugins.causal_lm.tiny import OWN
from tests.plugins.causal_lm.tiny import options as language_model
from tests.plugins.florence2.tiny_florence import ARCHITECTURE, PROMPT_IDS
from tests.plugins.florence2.tiny_florence import SIZE as FLORENCE_SIZE
from tests.plugins.stable_diffusion.tiny import VIEW, architecture
from tests.plugins.vision_transformers.tiny_models import ARCHITECTURES
from vlv_core.compose import ROLES, choose, compose
from vlv_core.model import VLV
from vlv_core.model_parts import export_parts
from vlv_core.parts import ExportPart
from vlv_core.plugins import load_plugins
from vlv_core.registry import Plugins
from vlv_core.specs import View

Options = Mapping[str, Any]

PARTS_OF = {
    "encoder": ("encoder",),
    "bottleneck": ("encoder",),
    "decoder": ("condition", "text", "denoiser", "vae_decoder"),
    "connector": ("condition",),
    "head": ("head",),
}
"""which parts of a model a role's components appear in"""
COMPANIONS: Mapping[str, tuple[str, Options]] = {
    "encoder": ("mini-vit", {"width": 24, "depth": 1, "heads": 2}),
    "bottleneck": ("query", {"num_queries": 6, "depth": 1, "heads": 2}),
    "decoder": (
        "mini-t2i",
        {
            **{"text_width": 24, "text_depth": 1, "text_heads": 2, "text_length": 12},
            **{"vae_width": 16, "width": 24, "depth": 1, "heads": 2},
        },
    ),
    "connector": ("mlp", {"depth": 2}),
    "head": ("mini-lm", {"width": 24, "depth": 2, "heads": 2, "hidden": 32, "max_length": 40}),
}
"""what stands beside the component that is looked at"""
PIXELS = {"size": FLORENCE_SIZE, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
FLORENCE = {"architecture": ARCHITECTURE, "prompt_ids": list(PROMPT_IDS), "num_queries": 7}


@dataclass(frozen=True)
class Case:
    """A component with options, and the size of view that it wants."""

    role: str
    plugin: str
    options: Options = field(default_factory=dict)
    label: str = ""
    view: int = 64

    def __str__(self) -> str:
        return "-".join(filter(None, (self.role, self.plugin, self.label)))


def _vision(kind: str, **more: Any) -> Case:
    options = {"model": "tiny", "architecture": ARCHITECTURES[kind], **more}
    label = "-".join(map(str, (kind, *more.values())))
    return Case("encoder", "vision-transformers", options, label)


TINY: tuple[Case, ...] = (
    *(Case(role, *COMPANIONS[role]) for role in ROLES),
    Case("encoder", "florence2", {"architecture": ARCHITECTURE, "pixels": PIXELS}),
    Case("bottleneck", "florence2", {**FLORENCE, "adapt": True}, view=32),
    *(_vision(kind) for kind in ("clip", "siglip", "vit")),
    # Of another size than the model's own, so that its positions are resampled.
    *(_vision(f"dinov{each}", image_size=32) for each in ("2", "2_with_registers", "3_vit")),
    _vision("dinov2_with_registers", image_size=16),
    *(
        Case(
            "decoder",
            kind,
            {"architecture": architecture(kind)},
            view=VIEW,
        )
        for kind in ("stable-diffusion", "stable-diffusion-xl", "stable-diffusion-3")
    ),
    *(Case("head", "causal-lm", language_model(kind), kind) for kind in OWN),
    Case("head", "causal-lm", language_model("llama", lora_rank=2), "llama-adapters"),
)


def cases(plugins: Plugins) -> Iterator[Case]:
    """All of TINY, and one for each installed component that it does not know."""
    yield from TINY
    known = {(case.role, case.plugin) for case in TINY}
    for role in ROLES:
        for name in plugins.names(role):
            if (role, name) not in known:
                yield Case(role, name)


def build(case: Case, plugins: Plugins | None = None) -> VLV:
    """The component among its companions, random weights, none of them at 0 or 1."""
    plugins = plugins or load_plugins()
    named = {**COMPANIONS, case.role: (case.plugin, case.options)}
    choices = {
        role: choose(role, name, options, plugins=plugins)
        for role, (name, options) in named.items()
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = compose(choices, view=View(size=case.view)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def parts(case: Case, plugins: Plugins | None = None) -> list[ExportPart]:
    """Those of its model's parts that the component appears in."""
    model = build(case, plugins)
    wanted = PARTS_OF[case.role]
    made = export_parts(model, reconstruct=case.role in ("decoder", "connector"))
    return [part for part in made if part.name in wanted]
