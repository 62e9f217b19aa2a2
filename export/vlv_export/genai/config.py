"""The package's settings: what GenAI reads, as plain data."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vlv_core.specs import Fit, PixelSpec, Resample, View
from vlv_export.genai.placeholders import Placeholders

TYPE = "videochat_flash_qwen"
"""see the package's docstring"""
MAX_ROWS = 32
"""GenAI refuses larger batches"""
INTERPOLATION: dict[Resample, str] = {
    "nearest": "NEAREST",
    "bilinear": "LINEAR",
    "bicubic": "CUBIC",
    "lanczos": "LANCZOS",
}
"""GenAI resizes by a copy of Pillow's code; it has no box filter"""


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """Sizes of the language model."""

    dim: int
    layers: int
    heads: int
    cache_heads: int
    head_width: int
    max_length: int
    """longest prefix + caption, tokens"""


def genai_config(
    decoder: Decoder, placeholders: Placeholders, *, eos: Sequence[int], processor: bool
) -> dict[str, Any]:
    """`genai_config.json`: greedy by default, past and present cache in one buffer."""
    vision: dict[str, Any] = {
        "filename": "vision.onnx",
        "num_visual_tokens": placeholders.count,
        "inputs": {"pixel_values": "pixel_values"},
        "outputs": {"image_features": "image_features"},
    }
    if processor:
        vision["config_filename"] = "processor_config.json"
    return {
        "model": {
            "type": TYPE,
            "vocab_size": placeholders.total,
            "context_length": decoder.max_length,
            "bos_token_id": eos[0],
            "eos_token_id": list(eos),
            "pad_token_id": eos[0],
            "image_token_id": placeholders.pad,
            "vision": vision,
            "embedding": {
                "filename": "embedding.onnx",
                "inputs": {"input_ids": "input_ids", "image_features": "image_features"},
                "outputs": {"inputs_embeds": "inputs_embeds"},
            },
            "decoder": _decoder(decoder),
        },
        "search": {
            "do_sample": False,
            "num_beams": 1,
            "max_length": decoder.max_length,
            "past_present_share_buffer": True,
        },
    }


def _decoder(sizes: Decoder) -> dict[str, Any]:
    return {
        "filename": "decoder.onnx",
        "session_options": {"log_id": "vlv", "provider_options": []},
        "hidden_size": sizes.dim,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.cache_heads,
        "head_size": sizes.head_width,
        "inputs": {
            "inputs_embeds": "inputs_embeds",
            "attention_mask": "attention_mask",
            "past_key_names": "past.%d.key",
            "past_value_names": "past.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }


def tokenizer_config(tokenizer: str, *, eos: Sequence[int]) -> dict[str, Any]:
    """`tokenizer_config.json` for the text of a tokenizer.json."""
    data = json.loads(tokenizer)
    names = {number: text for text, number in data["model"]["vocab"].items()}
    names |= {each["id"]: each["content"] for each in data["added_tokens"]}
    end = names[eos[0]]
    byte_level = not data["model"].get("byte_fallback")
    return {
        "tokenizer_class": "GPT2Tokenizer" if byte_level else "LlamaTokenizer",
        "bos_token": end,
        "eos_token": end,
        "pad_token": end,
        "add_bos_token": False,
        "add_eos_token": False,
    }


def processor_config(view: View, pixels: PixelSpec) -> dict[str, Any] | None:
    """`processor_config.json`: files of pictures into pixels 0 .. 255 at the encoder's size.

    None if GenAI has no operation for how this model fits its pictures.
    """
    steps = _fit(view.size, view.fit, view.resample, edge=view.size)
    if pixels.size != view.size or pixels.edge not in (None, pixels.size):
        edge = pixels.edge or pixels.size
        steps += _fit(pixels.size, pixels.fit, pixels.resample, edge=edge)
    if None in steps:
        return None
    transforms = [
        _step("DecodeImage", color_space="RGB"),
        *steps,
        _step("Rescale", rescale_factor=1.0),
    ]
    return {"processor": {"name": "view", "transforms": transforms}}


def _fit(size: int, fit: Fit, resample: Resample, *, edge: int) -> list[dict[str, Any] | None]:
    """One way to a square; [None] where GenAI cannot go it.

    GenAI has no resize that keeps proportions (it takes the option, and squashes): "crop" is right
    for square pictures alone.
    """
    kernel = INTERPOLATION.get(resample)
    if kernel is None or fit == "pad":
        return [None]
    resize = _step("Resize", interpolation=kernel, width=edge, height=edge, keep_aspect_ratio=0)
    return [resize] if edge == size else [resize, _step("CenterCrop", width=size, height=size)]


def _step(kind: str, **attributes: Any) -> dict[str, Any]:
    return {"operation": {"name": kind.lower(), "type": kind, "attrs": attributes}}
