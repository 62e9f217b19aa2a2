"""Options of the two halves of Florence-2, and which files of a model they read."""

from dataclasses import dataclass, field
from typing import Any

from vlv_core.specs import PixelSpec, Source

DEFAULT = "microsoft/Florence-2-large"

PIXELS = PixelSpec(
    size=768,
    fit="squash",
    resample="bicubic",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
"""of every published Florence-2: ImageNet's mean and standard deviation"""

TASKS = {
    "<CAPTION>": "What does the image describe?",
    "<DETAILED_CAPTION>": "Describe in detail what is shown in the image.",
    "<MORE_DETAILED_CAPTION>": "Describe with a paragraph what is shown in the image.",
}
"""captioning tasks, and the words that Florence-2's processor puts in their place"""

PROMPT = "<MORE_DETAILED_CAPTION>"
PROMPT_IDS = (0, 47066, 21700, 19, 10, 17818, 99, 16, 2343, 11, 5, 2274, 4, 2)
"""the words of `PROMPT` by the tokenizer that all published Florence-2 share"""


@dataclass(frozen=True)
class EncoderConfig:
    """`florence2` encoder."""

    model: str = DEFAULT
    """repository or folder, in the original's naming or in transformers'"""
    architecture: dict[str, Any] = field(default_factory=dict)
    """`vision_config` of the model's config.json; left empty in a recipe"""
    pixels: PixelSpec | None = None
    """how pictures are resized and normalised; None takes the processor's own"""
    gradient_checkpointing: bool = False
    """recompute activations in the backward pass: less memory, more time"""


@dataclass(frozen=True)
class BottleneckConfig:
    """`florence2` bottleneck."""

    model: str = DEFAULT
    """repository or folder, in the original's naming or in transformers'"""
    architecture: dict[str, Any] = field(default_factory=dict)
    """`text_config` of the model's config.json; left empty in a recipe"""
    num_queries: int = 77
    """K, caption embeddings per picture"""
    hidden: int = 0
    """width inside phi; 0 takes that of the caption embeddings"""
    prompt: str = PROMPT
    """a captioning task of Florence-2, or words"""
    prompt_ids: tuple[int, ...] = ()
    """the prompt's tokens, begin and end included; left empty in a recipe"""
    adapt: bool = False
    """put a linear layer before it, so that tokens of any encoder fit; it has no pretrained
    weights. Without it, the encoder must be of the same Florence-2"""
    gradient_checkpointing: bool = False
    """recompute activations in the backward pass: less memory, more time"""


def pretrained(config: EncoderConfig | BottleneckConfig) -> Source:
    """Weights alone; both halves are in the same files."""
    files = (
        "model.safetensors",
        "model-?????-of-?????.safetensors",
        "model.safetensors.index.json",
    )
    return Source(location=config.model, files=files)
