"""Encoders that are published vision transformers, by transformers' own classes."""

from collections.abc import Iterable

from vlv_core import EncoderSpec, hookimpl
from vlv_plugins.vision_transformers.config import VisionTransformerConfig


@hookimpl
def vlv_encoders() -> Iterable[EncoderSpec]:
    return [
        EncoderSpec(
            name="vision-transformers",
            summary="CLIP, SigLIP, SigLIP 2 (fixed size), DINOv2, DINOv3 or ViT, any layer",
            build="vlv_plugins.vision_transformers._encoder:build",
            config=VisionTransformerConfig,
            complete="vlv_plugins.vision_transformers._files:complete",
            pretrained="vlv_plugins.vision_transformers.config:pretrained",
            requires=("torch", "transformers"),
            extra="models",
        )
    ]
