"""Options of `causal-lm`, and which files of a published model are read."""

from dataclasses import dataclass, field
from typing import Any, Literal

from vlv_core import Source
from vlv_core.errors import ConfigError
from vlv_core.hub import PACKAGE

DESCRIPTION = ("config.json", "generation_config.json", "tokenizer_config.json")
"""files that say how to build a model and where its texts end"""
WEIGHTS = ("model*.safetensors", "model.safetensors.index.json", "tokenizer.json", *DESCRIPTION)


@dataclass(frozen=True)
class CausalLmConfig:
    """`causal-lm`: a decoder-only language model, built by transformers."""

    model: str
    """hub name such as "Qwen/Qwen2.5-0.5B", a local folder, or "package:NAME" """
    architecture: dict[str, Any] = field(default_factory=dict)
    """the model's own config.json; filled in where a recipe leaves it empty"""
    gguf: str = ""
    """name or pattern of the GGUF file to read weights and tokenizer from; safetensors if empty"""
    eos: tuple[int, ...] = ()
    """tokens that end a caption; the first is what training appends. The model's own if empty"""
    max_length: int = 512
    """longest prefix + caption, tokens"""
    lora_rank: int = 0
    """inner width of the adapters (Hu et al., arXiv 2106.09685); 0 trains the model itself"""
    lora_alpha: float = 16.0
    """adapters are scaled by lora_alpha / lora_rank"""
    lora_targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """layers that get adapters: all but the output layer, or by name, such as "q_proj" """
    gradient_checkpointing: bool = False
    """compute layers again in the backward pass instead of keeping their activations"""

    def __post_init__(self) -> None:
        if self.max_length < 2:
            raise ConfigError(f"max_length is {self.max_length}; use 2 or more")
        if self.lora_rank < 0:
            raise ConfigError(f"lora_rank is {self.lora_rank}; use 0 for no adapters, or more")
        if self.lora_rank and self.lora_alpha <= 0:
            raise ConfigError(f"lora_alpha is {self.lora_alpha}; use more than 0")
        if self.lora_rank and not self.lora_targets:
            raise ConfigError("lora_targets is empty; name layers, or use 'all-linear'")


def gguf_pattern(config: CausalLmConfig) -> str:
    """Which GGUF files a source holds, "" if it is not meant to: packages ship nothing else."""
    return config.gguf or ("*.gguf" if config.model.startswith(PACKAGE) else "")


def pretrained(config: CausalLmConfig) -> Source:
    """Weights and tokenizer of the published model."""
    pattern = gguf_pattern(config)
    return Source(location=config.model, files=(pattern,) if pattern else WEIGHTS)
