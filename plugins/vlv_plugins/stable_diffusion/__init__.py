"""Stable Diffusion as frozen decoders: 1.x and 2.x, XL, and the flow-matching 3 and 3.5."""

from collections.abc import Iterable
from typing import Any

from vlv_core import DecoderSpec, hookimpl
from vlv_plugins.stable_diffusion.config import (
    StableDiffusion3Config,
    StableDiffusionConfig,
    StableDiffusionXlConfig,
)


@hookimpl
def vlv_decoders() -> Iterable[DecoderSpec]:
    return [
        _spec(
            "stable-diffusion",
            summary="Stable Diffusion 1.5, 2.1-base (epsilon) and 2.1 (v): one CLIP text encoder",
            config=StableDiffusionConfig,
            builder="build",
        ),
        _spec(
            "stable-diffusion-xl",
            summary="Stable Diffusion XL: two CLIP text encoders, z split between them",
            config=StableDiffusionXlConfig,
            builder="build_xl",
        ),
        _spec(
            "stable-diffusion-3",
            summary="Stable Diffusion 3 and 3.5 (flow matching): two CLIP text encoders, no T5",
            config=StableDiffusion3Config,
            builder="build_3",
        ),
    ]


def _spec(name: str, *, summary: str, config: type[Any], builder: str) -> DecoderSpec:
    return DecoderSpec(
        name=name,
        summary=summary,
        build=f"vlv_plugins.stable_diffusion._condition:{builder}",
        diffusion=f"vlv_plugins.stable_diffusion._diffusion:{builder}",
        config=config,
        complete="vlv_plugins.stable_diffusion._complete:complete",
        pretrained="vlv_plugins.stable_diffusion.config:pretrained",
        diffusion_pretrained="vlv_plugins.stable_diffusion.config:diffusion_pretrained",
        requires=("torch", "transformers", "diffusers"),
        extra="models",
    )
