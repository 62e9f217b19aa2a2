"""Small random models of every family, from the real configuration classes."""

from typing import Any

import torch
from torch import Tensor

from vlv_core.config import configure
from vlv_core.specs import Near
from vlv_plugins.causal_lm._head import CausalLm, build
from vlv_plugins.causal_lm.config import CausalLmConfig

VOCAB = 288
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    # The byte tokenizer's end of text, so that the library's `generate` stops where ours does.
    "bos_token_id": 0,
    "eos_token_id": 256,
    "pad_token_id": 256,
}
OWN: dict[str, dict[str, Any]] = {
    "qwen2": {"use_sliding_window": False},
    "qwen3": {"head_dim": 16},
    "llama": {"rope_theta": 100000},
    "smollm3": {"no_rope_layer_interval": 2},
    "gemma": {"head_dim": 16},
    # A window shorter than the texts, in every second layer.
    "gemma2": {"head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16},
    "gemma3_text": {"head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16},
    "mistral": {"sliding_window": 8},
    "olmo2": {},
    "granite": {"embedding_multiplier": 3.0, "logits_scaling": 2.0},
    "phi3": {},
}
"""what each family has of its own"""


def architecture(kind: str, **changed: Any) -> dict[str, Any]:
    """A config.json."""
    return {"model_type": kind, **SIZES, **OWN[kind], **changed}


def options(kind: str, **changed: Any) -> dict[str, Any]:
    """A recipe's options."""
    return {"model": "tiny", "architecture": architecture(kind), "max_length": 96, **changed}


def config(kind: str, **changed: Any) -> CausalLmConfig:
    made = configure(CausalLmConfig, options(kind, **changed), "head")
    assert made is not None
    return made


def head(kind: str, *, seed: int = 0, **changed: Any) -> CausalLm:
    """In eval mode, with weights large enough that words differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = build(config(kind, **changed), Near())
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                if parameter.dim() > 1 and "lora" not in name:
                    parameter.mul_(4.0)
    return made.eval()


def prefix(rows: int, length: int = 5, *, width: int = 32, seed: int = 1) -> Tensor:
    return torch.randn(rows, length, width, generator=torch.Generator().manual_seed(seed))
