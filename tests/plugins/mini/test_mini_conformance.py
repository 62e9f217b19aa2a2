"""The bundled parts keep the contract."""

from typing import Any

from vlv_core.conformance import (
    ConditionConformance,
    DiffusionConformance,
    EncoderConformance,
    HeadConformance,
)
from vlv_core.specs import Near
from vlv_plugins import mini

SMALL = {"text_width": 16, "text_heads": 2, "vae_width": 16, "width": 24, "depth": 2, "heads": 2}
SENTENCES = ("a red circle in the top left.", "plain grey background; top: a large blue star.")


class TestMiniVit(EncoderConformance):
    spec = next(iter(mini.vlv_encoders()))
    config: dict[str, Any] = {"width": 32, "depth": 2, "heads": 4}


class TestMiniCondition(ConditionConformance):
    spec = next(iter(mini.vlv_decoders()))
    config: dict[str, Any] = SMALL
    captions = SENTENCES


class TestMiniDiffusion(DiffusionConformance):
    spec = next(iter(mini.vlv_decoders()))
    config: dict[str, Any] = SMALL
    near = Near(view_size=64, context_dim=16)


class TestMiniLm(HeadConformance):
    spec = next(iter(mini.vlv_heads()))
    config: dict[str, Any] = {"width": 32, "depth": 2, "heads": 4, "hidden": 48}
    captions = SENTENCES
