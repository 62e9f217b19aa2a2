"""Every supported family at random tiny size, by transformers' own classes."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModel, PreTrainedModel

SMALL = {
    "hidden_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "patch_size": 4,
}
_SIDES = {**SMALL, "intermediate_size": 32, "image_size": 16}
_WORDS = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "vocab_size": 9,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "clip": {"model_type": "clip", "vision_config": _SIDES, "text_config": _WORDS},
    "clip_vision_model": {"model_type": "clip_vision_model", **_SIDES},
    "siglip": {"model_type": "siglip", "vision_config": _SIDES, "text_config": _WORDS},
    "siglip_vision_model": {"model_type": "siglip_vision_model", **_SIDES},
    "dinov2": {"model_type": "dinov2", **SMALL, "image_size": 24, "mlp_ratio": 2},
    "dinov2_with_registers": {
        "model_type": "dinov2_with_registers",
        **SMALL,
        "image_size": 24,
        "mlp_ratio": 2,
        "num_register_tokens": 2,
    },
    "dinov3_vit": {"model_type": "dinov3_vit", **_SIDES, "num_register_tokens": 2},
    "vit": {"model_type": "vit", **_SIDES},
}
KINDS = tuple(ARCHITECTURES)

# Class token and registers, before the patches.
BEFORE = {
    "clip": 1,
    "clip_vision_model": 1,
    "siglip": 0,
    "siglip_vision_model": 0,
    "dinov2": 1,
    "dinov2_with_registers": 3,
    "dinov3_vit": 3,
    "vit": 1,
}
NORMS = {"clip": "post_layernorm", "siglip": "post_layernorm", "dinov3_vit": "norm"}
"""by the model_type's first word; else layernorm"""


def library_model(kind: str, *, seed: int = 0) -> PreTrainedModel:
    """The whole model, every parameter random, so that none is at a value that hides it."""
    table = {key: value for key, value in ARCHITECTURES[kind].items() if key != "model_type"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModel.from_config(AutoConfig.for_model(kind, **table))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def vision_of(model: PreTrainedModel) -> Any:
    return getattr(model, "vision_model", model)


def expected(model: PreTrainedModel, pixels: torch.Tensor, *, layer: int, norm: bool) -> Any:
    """The library's hidden_states[layer] of the whole model, and its own final norm."""
    vision = vision_of(model)
    with torch.no_grad():
        hidden = vision(pixel_values=pixels, output_hidden_states=True).hidden_states[layer]
        kind = vision.config.model_type.split("_")[0]
        name = NORMS.get("dinov3_vit" if kind == "dinov3" else kind, "layernorm")
        return getattr(vision, name)(hidden) if norm else hidden


def noise(*shape: int, key: int = 0) -> NDArray[np.uint8]:
    return np.random.Generator(np.random.Philox(key)).integers(0, 256, shape, np.uint8)
