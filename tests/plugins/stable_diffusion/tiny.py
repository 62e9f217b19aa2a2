"""Tiny random models of each kind, made of the library's own classes and saved in its layout."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from vlv_core.specs import DecoderSpec, Near, Source, resolve
from vlv_plugins import stable_diffusion
from vlv_plugins._hub import _byte_symbols

SPECS: Mapping[str, DecoderSpec] = {spec.name: spec for spec in stable_diffusion.vlv_decoders()}
KINDS = ("stable-diffusion", "stable-diffusion-v", "stable-diffusion-xl", "stable-diffusion-3")
VIEW = 16
"""pixels; latents are half as wide"""
LENGTH = 40
"""longest prompt, tokens"""
END = "<|endoftext|>"


def text(width: int, *, layers: int = 3, projection: int = 24) -> dict[str, Any]:
    return {
        "model_type": "clip_text_model",
        "vocab_size": 600,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "max_position_embeddings": LENGTH,
        "projection_dim": projection,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "hidden_act": "gelu",
    }


def unet(width: int, **more: Any) -> dict[str, Any]:
    return {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [16, 32],
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "attention_head_dim": [2, 4],
        "cross_attention_dim": width,
        **more,
    }


def vae(**more: Any) -> dict[str, Any]:
    return {
        "block_out_channels": [8, 16],
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "sample_size": VIEW,
        **more,
    }


def scheduler(prediction: str = "epsilon") -> dict[str, Any]:
    return {
        "_class_name": "DDIMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": prediction,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "clip_sample": False,
    }


def specials(padding: str) -> dict[str, str]:
    return {"bos_token": "<|startoftext|>", "eos_token": END, "pad_token": padding}


def architecture(kind: str) -> dict[str, Any]:
    """What `complete` should make of the folder that `publish` writes."""
    if kind == "stable-diffusion-3":
        return {
            "text_encoder": text(32),
            "text_encoder_2": text(40, projection=16),
            "transformer": {
                "sample_size": 8,
                "patch_size": 2,
                "in_channels": 4,
                "out_channels": 4,
                "num_layers": 2,
                "attention_head_dim": 8,
                "num_attention_heads": 4,
                "joint_attention_dim": 80,
                "caption_projection_dim": 32,
                "pooled_projection_dim": 40,
                "pos_embed_max_size": 16,
                "dual_attention_layers": [0],
                "qk_norm": "rms_norm",
            },
            "vae": vae(
                scaling_factor=1.5305,
                shift_factor=0.0609,
                use_quant_conv=False,
                use_post_quant_conv=False,
            ),
            "scheduler": {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0},
            "tokenizer": specials(END),
            "tokenizer_2": specials("!"),
        }
    if kind == "stable-diffusion-xl":
        added = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 16,
            "transformer_layers_per_block": [1, 2],
            "use_linear_projection": True,
        }
        return {
            "text_encoder": text(32),
            "text_encoder_2": text(40, projection=16),
            "unet": unet(72, **added),
            "vae": vae(scaling_factor=0.13025),
            "scheduler": scheduler(),
            "tokenizer": specials(END),
            "tokenizer_2": specials("!"),
            "force_zeros_for_empty_prompt": True,
        }
    velocity = kind == "stable-diffusion-v"
    return {
        "text_encoder": text(32),
        "unet": unet(32),
        "vae": vae(),
        "scheduler": scheduler("v_prediction" if velocity else "epsilon"),
        "tokenizer": specials("!" if velocity else END),
    }


def tokenizer(padding: str) -> CLIPTokenizer:
    """Byte-level BPE with three merges; "!" is token 0 and the specials come last, as in CLIP."""
    symbols = sorted(_byte_symbols(), key="!".__ne__)
    merged = ["re", "red</w>", "ci"]
    words = [*symbols, *(f"{s}</w>" for s in symbols), *merged, "<|startoftext|>", END]
    return CLIPTokenizer(
        vocab={word: i for i, word in enumerate(words)},
        merges=[("r", "e"), ("re", "d</w>"), ("c", "i")],
        model_max_length=LENGTH,
        pad_token=padding,
    )


def shaken(module: nn.Module) -> Any:
    """In eval mode, and no parameter is left at 0 or 1."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return module.eval()


def pipeline(kind: str) -> Any:
    """The library's own pipeline of random parts."""
    torch.manual_seed(3)
    tables = architecture(kind)
    projected = kind == "stable-diffusion-3"
    parts: dict[str, Any] = {
        "vae": shaken(AutoencoderKL(**tables["vae"])),
        "tokenizer": tokenizer(tables["tokenizer"]["pad_token"]),
        "text_encoder": shaken(
            (CLIPTextModelWithProjection if projected else CLIPTextModel)(
                CLIPTextConfig(**tables["text_encoder"])
            )
        ),
    }
    if "text_encoder_2" in tables:
        parts["tokenizer_2"] = tokenizer(tables["tokenizer_2"]["pad_token"])
        parts["text_encoder_2"] = shaken(
            CLIPTextModelWithProjection(CLIPTextConfig(**tables["text_encoder_2"]))
        )
    noise = {k: v for k, v in tables["scheduler"].items() if not k.startswith("_")}
    if kind == "stable-diffusion-3":
        return StableDiffusion3Pipeline(
            **parts,
            transformer=shaken(SD3Transformer2DModel(**tables["transformer"])),
            scheduler=FlowMatchEulerDiscreteScheduler(**noise),
            text_encoder_3=None,
            tokenizer_3=None,
        )
    parts |= {
        "unet": shaken(UNet2DConditionModel(**tables["unet"])),
        "scheduler": DDIMScheduler(**noise),
    }
    if kind == "stable-diffusion-xl":
        return StableDiffusionXLPipeline(**parts, add_watermarker=False)
    return StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


@dataclass(frozen=True)
class Published:
    """A pipeline, the folder it was saved to, and what our code reads there."""

    kind: str
    folder: Path
    pipe: Any

    @property
    def spec(self) -> DecoderSpec:
        return SPECS[self.kind.removesuffix("-v")]

    @cached_property
    def config(self) -> Any:
        assert self.spec.config and self.spec.complete
        empty = self.spec.config(model=str(self.folder))
        return resolve(self.spec.complete)(empty, local)

    @property
    def near(self) -> Near:
        return Near(view_size=VIEW, context_dim=self.condition.context_dim)

    @cached_property
    def condition(self) -> Any:
        return self.build_condition()

    @cached_property
    def diffusion(self) -> Any:
        return self.build_diffusion()

    def build_condition(self) -> Any:
        return self.read(resolve(self.spec.build)(self.config, Near(view_size=VIEW)))

    def build_diffusion(self, **options: Any) -> Any:
        config = replace(self.config, **options)
        return self.read(resolve(self.spec.diffusion)(config, self.near))

    def read(self, module: Any) -> Any:
        """Frozen, with the folder's weights."""
        module.load_pretrained(self.folder)
        return module.eval().requires_grad_(False)


def local(source: Source) -> Path:
    return Path(source.location)


def publish(kind: str, folder: Path) -> Published:
    pipe = pipeline(kind)
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder)
    return Published(kind, folder, pipe)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def close(left: Tensor, right: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(left, right, atol=tolerance, rtol=tolerance)
