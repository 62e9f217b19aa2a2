"""A tiny Florence-2 by transformers, and its weights under the original's names.

The table from native to original names is written by hand, from the original's modules: it shares
nothing with the code under test.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import Florence2Config, Florence2ForConditionalGeneration

VISION: dict[str, Any] = {
    "depths": [1, 1, 2, 1],
    "embed_dim": [8, 16, 24, 32],
    "num_heads": [1, 2, 3, 4],
    "num_groups": [1, 2, 3, 4],
    "window_size": 3,
    "projection_dim": 24,
    "max_temporal_embeddings": 5,
    "max_position_embeddings": 6,
}
TEXT: dict[str, Any] = {
    "model_type": "bart",
    "vocab_size": 61,
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 28,
    "max_position_embeddings": 48,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
ARCHITECTURE: dict[str, Any] = {
    "model_type": "florence2",
    "vision_config": VISION,
    "text_config": TEXT,
}
SIZE = 64
"""pixels; the last feature map is 2 x 2, so there are 5 tokens"""
TOKENS = 5
PROMPT_IDS = (0, 17, 18, 19, 2)

_BLOCK = (
    (".conv1.", ".conv1.fn.dw."),
    (".conv2.", ".conv2.fn.dw."),
    (".norm2.", ".ffn.norm."),
    (".ffn.fc", ".ffn.fn.net.fc"),
    (".window_attn.", ".window_attn.fn."),
    (".channel_attn.", ".channel_attn.fn."),
)
_PROJECTOR = {
    "image_proj_norm.": "image_proj_norm.",
    "image_position_embed.": "image_pos_embed.",
    "visual_temporal_embed.": "visual_temporal_embed.",
}


def tiny_model(*, seed: int = 0, **text: Any) -> Florence2ForConditionalGeneration:
    """Every parameter random, norms and biases too, so that none can be mistaken for another."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = Florence2Config(
            vision_config=VISION, text_config=TEXT | text, image_token_id=TEXT["vocab_size"] - 1
        )
        model = Florence2ForConditionalGeneration(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def original_state(model: Florence2ForConditionalGeneration) -> dict[str, Tensor]:
    """The state dict as Microsoft's remote code has it."""
    state = {}
    for name, tensor in model.state_dict().items():
        new, tensor = _original(name.removeprefix("model."), tensor)  # noqa: PLW2901
        state[new] = tensor
    state["language_model.final_logits_bias"] = torch.zeros(1, TEXT["vocab_size"])
    return state


def original_config() -> dict[str, Any]:
    """config.json as Microsoft publishes it, with keys that mean nothing here."""
    vision = dict(VISION, model_type="davit", enable_checkpoint=False)
    vision["dim_embed"] = vision.pop("embed_dim")
    most = vision.pop("max_temporal_embeddings")
    vision["visual_temporal_embedding"] = {"type": "COSINE", "max_temporal_embeddings": most}
    most = vision.pop("max_position_embeddings")
    vision["image_pos_embed"] = {"type": "learned_abs_2d", "max_pos_embeddings": most}
    vision["image_feature_source"] = ["spatial_avg_pool", "temporal_avg_pool"]
    text = dict(TEXT, model_type="florence2_language", num_beams=3, prefix=None)
    return {"model_type": "florence2", "vision_config": vision, "text_config": text}


def write_native(model: Florence2ForConditionalGeneration, folder: Path) -> Path:
    """As the library writes it."""
    model.save_pretrained(folder)
    write_processor(folder)
    return folder


def write_original(model: Florence2ForConditionalGeneration, folder: Path) -> Path:
    """As Microsoft's repository has it."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.clone() for name, tensor in original_state(model).items()}
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(original_config()))
    write_processor(folder)
    return folder


def write_processor(folder: Path, **changes: Any) -> None:
    """preprocessor_config.json of the published models, at the tiny size."""
    table = {
        "do_resize": True,
        "do_center_crop": False,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "resample": 3,
        "size": {"height": SIZE, "width": SIZE},
        "crop_size": {"height": SIZE, "width": SIZE},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(table | changes))


def _original(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    if name.startswith("lm_head."):
        return f"language_model.{name}", tensor
    if name.startswith("language_model."):
        return name.replace("language_model.", "language_model.model.", 1), tensor
    if name == "multi_modal_projector.image_projection.weight":
        return "image_projection", tensor.T.contiguous()
    if name.startswith("multi_modal_projector."):
        name = name.removeprefix("multi_modal_projector.")
        start = next(key for key in _PROJECTOR if name.startswith(key))
        return _PROJECTOR[start] + name.removeprefix(start), tensor
    if match := re.fullmatch(r"(vision_tower\.convs\.\d+)\.conv\.(.*)", name):
        return f"{match[1]}.proj.{match[2]}", tensor
    attention = "window_attn" if ".spatial_block." in name else "channel_attn"
    for native, original in _BLOCK:
        name = name.replace(native, original)
    return name.replace(".norm1.", f".{attention}.norm."), tensor
