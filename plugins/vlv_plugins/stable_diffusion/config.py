"""Options of the Stable Diffusion decoders, and which files of a model each of them reads."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from vlv_core.specs import Source

TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.json", "merges.txt"),
    *("tokenizer_config.json", "special_tokens_map.json"),
)
TEXT_STEM = "model"
"""file name of a text encoder's weights, before variant and extension"""
DIFFUSION_STEM = "diffusion_pytorch_model"
"""the same of a denoiser's or VAE's"""


@dataclass(frozen=True)
class StableDiffusionConfig:
    """`stable-diffusion`: versions 1.x and 2.x."""

    model: str = "stabilityai/stable-diffusion-2-1-base"
    """repository, or folder in the layout of diffusers"""
    architecture: dict[str, Any] = field(default_factory=dict)
    """config.json of each sub-model by its folder's name, the scheduler's, and the tokenizers'
    special tokens; left empty in a recipe, and then taken from the model"""
    variant: Literal["", "fp16"] = ""
    """of the weight files: "fp16" halves the download, where the repository has such files"""
    gradient_checkpointing: bool = False
    """recompute the denoiser's activations in the backward pass: less memory, more time"""

    text_encoders: ClassVar[int] = 1
    denoiser: ClassVar[str] = "unet"


@dataclass(frozen=True)
class StableDiffusionXlConfig(StableDiffusionConfig):
    """`stable-diffusion-xl`."""

    model: str = "stabilityai/stable-diffusion-xl-base-1.0"

    text_encoders: ClassVar[int] = 2


@dataclass(frozen=True)
class StableDiffusion3Config(StableDiffusionConfig):
    """`stable-diffusion-3`: versions 3 and 3.5."""

    model: str = "stabilityai/stable-diffusion-3.5-medium"
    empty_t5_tokens: int = 256
    """zeros that stand for the absent third text encoder's tokens; the original pipeline has 256"""
    times: Literal["logit-normal", "uniform"] = "logit-normal"
    """how training draws times, before the scheduler's shift; the model's own is logit-normal"""

    text_encoders: ClassVar[int] = 2
    denoiser: ClassVar[str] = "transformer"


def numbered(name: str, config: StableDiffusionConfig) -> list[str]:
    """Folders of a kind, one for each text encoder: "tokenizer", "tokenizer_2"."""
    return [name if i == 0 else f"{name}_{i + 1}" for i in range(config.text_encoders)]


def stems(stem: str, variant: str) -> tuple[str, str]:
    """File names of weights, without extension: the one to read, and the one to fall back on."""
    both = (stem, f"{stem}.fp16")
    return both[::-1] if variant else both


def pretrained(config: StableDiffusionConfig) -> Source:
    """Text encoders and tokenizers, which are all that captioning needs."""
    weights = dict.fromkeys(numbered("text_encoder", config), TEXT_STEM)
    folders = numbered("tokenizer", config)
    tokenizers = [f"{folder}/{file}" for folder in folders for file in TOKENIZER_FILES]
    return Source(location=config.model, files=(*_weights(weights, config), *tokenizers))


def diffusion_pretrained(config: StableDiffusionConfig) -> Source:
    """Denoiser and VAE."""
    weights = dict.fromkeys((config.denoiser, "vae"), DIFFUSION_STEM)
    return Source(location=config.model, files=tuple(_weights(weights, config)))


def _weights(stems_by_folder: dict[str, str], config: StableDiffusionConfig) -> Iterator[str]:
    for folder, name in stems_by_folder.items():
        stem = stems(name, config.variant)[0]
        yield f"{folder}/{stem}.safetensors"
        yield f"{folder}/{stem}-?????-of-?????.safetensors"
        yield f"{folder}/{stem}.safetensors.index.json"
