"""Florence-2's config.json, in the original's keys or transformers', as transformers' classes."""

from collections.abc import Iterable, Mapping
from typing import Any

from transformers import BartConfig, Florence2Config

from vlv_core.errors import ConfigError

MODEL_TYPE = "florence2"

_VISION_KEYS = (
    *("in_channels", "depths", "patch_size", "patch_stride", "patch_padding", "patch_prenorm"),
    *("embed_dim", "num_heads", "num_groups", "window_size", "drop_path_rate", "mlp_ratio"),
    *("qkv_bias", "activation_function", "projection_dim", "max_temporal_embeddings"),
    *("max_position_embeddings", "initializer_range"),
)
_TEXT_KEYS = (
    *("vocab_size", "d_model", "max_position_embeddings", "scale_embedding", "init_std"),
    *("encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "encoder_layerdrop"),
    *("decoder_layers", "decoder_attention_heads", "decoder_ffn_dim", "decoder_layerdrop"),
    *("activation_function", "dropout", "attention_dropout", "activation_dropout"),
    *("bos_token_id", "eos_token_id", "pad_token_id"),
)
_FIXED = {
    "visual_temporal_embedding": ("type", "COSINE"),
    "image_pos_embed": ("type", "learned_abs_2d"),
}
"""what the original's keys could say otherwise, and neither code path does"""
_FEATURES = ["spatial_avg_pool", "temporal_avg_pool"]


def trimmed(table: Mapping[str, Any]) -> dict[str, Any]:
    """`vision_config` and `text_config` by transformers' keys, and only what shapes the model.

    Raises ConfigError for another model than Florence-2.
    """
    found = table.get("model_type", MODEL_TYPE)
    if found != MODEL_TYPE:
        raise ConfigError(f"model_type {found!r} is not supported; known: {MODEL_TYPE!r}")
    parts: dict[str, Any] = {"model_type": MODEL_TYPE}
    if "vision_config" in table:
        parts["vision_config"] = _kept(_native_vision(table["vision_config"]), _VISION_KEYS)
    if "text_config" in table:
        parts["text_config"] = _kept(table["text_config"], _TEXT_KEYS)
    return parts


def vision_config(architecture: Mapping[str, Any]) -> Florence2Config:
    """The configuration that the vision tower and its projection are built from."""
    table = _half(architecture, "vision_config")
    return Florence2Config(vision_config=table)


def text_config(architecture: Mapping[str, Any]) -> BartConfig:
    """The configuration of the multimodal encoder and decoder, which are BART's."""
    return BartConfig(**_half(architecture, "text_config"))


def _half(architecture: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = trimmed(architecture)
    if name not in found:
        raise ConfigError(
            f"architecture has no {name!r}; it has {', '.join(architecture) or 'nothing'}",
            hint="leave architecture out of the recipe: the model's config.json fills it in",
        )
    half: dict[str, Any] = found[name]
    return half


def _native_vision(table: Mapping[str, Any]) -> dict[str, Any]:
    for key, (entry, due) in _FIXED.items():
        if (said := table.get(key, {}).get(entry, due)) != due:
            raise ConfigError(f"vision_config.{key}: {said!r} is not supported; known: {due!r}")
    if (said := table.get("image_feature_source", _FEATURES)) != _FEATURES:
        raise ConfigError(
            f"vision_config.image_feature_source: {said} is not supported; known: {_FEATURES}"
        )
    renamed = {
        "embed_dim": table.get("dim_embed"),
        "max_temporal_embeddings": table.get("visual_temporal_embedding", {}).get(
            "max_temporal_embeddings"
        ),
        "max_position_embeddings": table.get("image_pos_embed", {}).get("max_pos_embeddings"),
    }
    return dict(table) | {key: value for key, value in renamed.items() if value is not None}


def _kept(table: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    # TOML has no null: a key without a value is left to the library's default
    return {key: table[key] for key in keys if table.get(key) is not None}
