"""What differs between the supported families, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlv_core.errors import ConfigError
from vlv_plugins._hub import known_class


@dataclass(frozen=True)
class Family:
    """A vision tower as transformers writes it."""

    norm: str
    """attribute: the final layer norm"""
    has_cls: bool = True
    """whether a class token comes before registers and patches"""
    any_size: bool = False
    """whether its positions fit inputs of another size than the configured one"""
    norms_tokens: bool = True
    """whether the library's own forward applies the final norm to all tokens"""


FAMILIES: Mapping[str, Family] = {
    # CLIP's own norm sees the class token alone, on the way to the joint space.
    "clip_vision_model": Family(norm="post_layernorm", norms_tokens=False),
    "siglip_vision_model": Family(norm="post_layernorm", has_cls=False),
    "dinov2": Family(norm="layernorm", any_size=True),
    "dinov2_with_registers": Family(norm="layernorm", any_size=True),
    "dinov3_vit": Family(norm="norm", any_size=True),
    "vit": Family(norm="layernorm"),
}
"""by model_type"""

TWO_TOWERS: Mapping[str, str] = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}
"""model_type of models that hold a text tower too -> that of their vision tower"""

# Choices of transformers' backbone wrapper; they name layers, and layers are ours to choose.
_NOT_ARCHITECTURE = ("out_features", "out_indices", "stage_names")


def vision_table(architecture: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The vision tower's model_type and configuration, from a whole config.json.

    Raises ConfigError that lists what is supported.
    """
    kind = str(architecture.get("model_type", ""))
    known_class(kind, {**TWO_TOWERS, **FAMILIES}, where="architecture.model_type")
    table = architecture
    if kind in TWO_TOWERS:
        kind, table = TWO_TOWERS[kind], architecture.get("vision_config") or {}
        if not table:
            raise ConfigError("architecture has no table 'vision_config', but two towers")
    kept = {
        key: value
        for key, value in table.items()
        if value is not None and key not in _NOT_ARCHITECTURE
    }
    return kind, {**kept, "model_type": kind}
