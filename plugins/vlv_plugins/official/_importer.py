"""A checkpoint of the official release -> a model folder, and a report."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vlv_core.compose import Choice, choose
from vlv_core.errors import UsageError
from vlv_core.model import VLV
from vlv_core.model_folder import ROLE_OF, save_model, save_parts
from vlv_core.registry import Plugins
from vlv_core.specs import View, resolve
from vlv_core.weights import sha256_of
from vlv_plugins.official._checkpoint import Checkpoint, read_checkpoint
from vlv_plugins.official._layout import Layout, layers, sort
from vlv_plugins.official._parts import Filled, build, fill
from vlv_plugins.official._report import NOTES, Report
from vlv_plugins.official._sources import FILES, Locations, Published, local

logger = logging.getLogger(__name__)

DOMAIN = (
    "photographs and pictures of the web (LAION-2B-en-aesthetic), filtered by size and watermark, "
    "described in English"
)
LICENCE = "those of the release and of the Florence-2, Stable Diffusion and language model in it"
OPTIONS = {
    "encoder": "--florence2",
    "bottleneck": "--florence2",
    "decoder": "--stable-diffusion",
    "head": "--llm",
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line said."""

    checkpoint: Path
    out: Path
    locations: Locations
    diffusion: bool | None
    """None writes it if it can be had"""
    view_size: int
    dtype: str
    name: str


def import_checkpoint(request: Request, *, plugins: Plugins) -> Report:
    """Read, compose, fill, write; the report, which is also in the folder.

    Raises ModelError for a checkpoint that is none of the release's or does not fit, ConfigError
    for sizes that disagree, and UsageError for a folder in use.
    """
    if request.out.exists() and any(request.out.iterdir()):
        raise UsageError(
            f"'{request.out}' holds something already", hint="give -o a new folder, or empty it"
        )
    checkpoint = read_checkpoint(request.checkpoint)
    layout = sort(checkpoint.tensors)
    choices = _choices(layout, request.locations, plugins=plugins)
    # A language model may be larger than what the system keeps for temporary files.
    scratch = request.out.resolve().parent
    published = {
        role: _published(role, choices, scratch=scratch) for role in OPTIONS if role in choices
    }
    diffusion, note = _wants_diffusion(request.diffusion, layout, published["decoder"])
    parts = build(choices, view_size=request.view_size, diffusion=diffusion)
    told = {}
    for part, module in parts.items():
        role = ROLE_OF.get(part, part)
        source = replace(published[role], part=part) if part in FILES else None
        told[part] = fill(part, module, layout, choice=choices[role], published=source)
        logger.info("filled %s", part)
    report = _report(checkpoint, layout, told, [note] if note else [])
    report.write(request.out)
    _save(request, report, parts, choices)
    return report


def sizes(layout: Layout) -> dict[str, int]:
    """What the checkpoint itself says of the model's sizes.

    K queries of width D; phi from D by `phi_hidden` to Dz; psi from Dc by `connector_hidden` in
    `connector_depth` layers to Dl.
    """
    queries, phi = layout.piece("queries")["queries"], layers(layout.piece("phi"))
    found = {"K": queries.shape[0], "D": queries.shape[1], "phi_hidden": phi[0].shape[0]}
    found["Dz"] = phi[-1].shape[0]
    if psi := layers(layout.piece("connector")):
        found |= {"Dc": psi[0].shape[1], "connector_hidden": psi[0].shape[0]}
        found |= {"connector_depth": len(psi), "Dl": psi[-1].shape[0]}
    return found


def _choices(layout: Layout, locations: Locations, *, plugins: Plugins) -> dict[str, Choice]:
    """The components that the checkpoint's pieces make, completed from the published models."""
    size = sizes(layout)
    wanted: dict[str, tuple[str, dict[str, Any]]] = {
        "encoder": ("florence2", {"model": locations.florence2}),
        "bottleneck": (
            "florence2",
            {
                "model": locations.florence2,
                "num_queries": size["K"],
                "hidden": size["phi_hidden"],
            },
        ),
        "decoder": ("stable-diffusion", {"model": locations.stable_diffusion}),
    }
    if layout.stage == 2:
        mlp = {"hidden": size["connector_hidden"], "depth": size["connector_depth"]}
        wanted |= {"connector": ("mlp", mlp), "head": ("causal-lm", {"model": locations.llm})}
    choices = {}
    for role, (name, options) in wanted.items():
        choice = choose(role, name, options, plugins=plugins)
        if choice.spec.complete:
            config = resolve(choice.spec.complete)(choice.config, local)
            choice = replace(choice, config=_fitted(config))
        choices[role] = choice
    return choices


def _fitted(config: Any) -> Any:
    """A language model with fewer positions than the component's default length."""
    most = config.architecture.get("max_position_embeddings")
    if most and getattr(config, "max_length", 0) > most:
        return replace(config, max_length=most)
    return config


def _published(role: str, choices: Mapping[str, Choice], *, scratch: Path) -> Published:
    part = "condition" if role == "decoder" else role
    return Published(choices[role], part, local, OPTIONS[role], scratch)


def _wants_diffusion(
    asked: bool | None, layout: Layout, decoder: Published
) -> tuple[bool, str | None]:
    """Whether to write the diffusion; if not, its keys are unused, for the reason that is told."""
    published = replace(decoder, part="diffusion")
    absent = [
        piece
        for file, piece in FILES["diffusion"].items()
        if not layout.piece(piece) and not published.has(file)
    ]
    if asked or (asked is None and not absent):
        return True, None
    reason = "--no-diffusion leaves the diffusion out"
    if asked is None:
        reason = (
            f"the diffusion was left out: neither the checkpoint nor {published.location!r} has "
            f"the weights of {' and '.join(absent)}, without which no picture can be drawn"
        )
    for piece in ("unet", "vae"):
        layout.drop(piece, "the diffusion was left out")
    return False, reason


def _report(
    checkpoint: Checkpoint, layout: Layout, told: Mapping[str, Filled], notes: list[str]
) -> Report:
    keys = checkpoint.keys
    if layout.stage == 1:
        notes = [
            *notes,
            "stage 1 has no connector and no language model: this folder captions nothing; a "
            "recipe's encoder, bottleneck and decoder may take `weights` from it, to train stage 2",
        ]
    else:
        notes = [*notes, *NOTES]
    return Report(
        checkpoint=checkpoint.file.name,
        sha256=sha256_of(checkpoint.file),
        stage=layout.stage,
        wrapper=checkpoint.wrapper,
        sizes=sizes(layout),
        parts={part: asdict(filled) for part, filled in told.items()},
        used={keys[name]: f"{piece}: {new}" for name, (piece, new) in layout.used.items()},
        unused={keys[name]: why for name, why in layout.unused.items()} | checkpoint.others,
        missing={
            f"{part}: {name}": place
            for part, filled in told.items()
            for place, names in filled.taken.items()
            for name in names
        },
        notes=notes,
    )


def _save(
    request: Request, report: Report, parts: dict[str, nn.Module], choices: Mapping[str, Choice]
) -> None:
    training = {
        "imported": report.checkpoint,
        "sha256": report.sha256,
        "stage": report.stage,
        "by": "vlv import official",
    }
    view, dtype = View(request.view_size), getattr(torch, request.dtype)
    if report.stage == 2:
        save_model(
            VLV(view=view, **parts).eval(),
            request.out,
            choices=choices,
            name=request.name,
            licence=LICENCE,
            domain=DOMAIN,
            training=training,
            dtype=dtype,
        )
        return
    said = {"name": request.name, "licence": LICENCE, "domain": DOMAIN, "training": training}
    save_parts(parts, request.out, choices=choices, view=view, said=said, dtype=dtype)
