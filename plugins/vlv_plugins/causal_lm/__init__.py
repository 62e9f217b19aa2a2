"""Language models of the hub as heads: Qwen2.5, Qwen3, SmolLM2, Llama, Gemma and their kin."""

from collections.abc import Iterable

from vlv_core import HeadSpec, hookimpl
from vlv_plugins.causal_lm.config import CausalLmConfig


@hookimpl
def vlv_heads() -> Iterable[HeadSpec]:
    return [
        HeadSpec(
            name="causal-lm",
            summary="a pretrained language model: Qwen2.5, Qwen3, SmolLM2, Llama, Gemma, or a GGUF",
            build="vlv_plugins.causal_lm._head:build",
            config=CausalLmConfig,
            complete="vlv_plugins.causal_lm._complete:complete",
            pretrained="vlv_plugins.causal_lm.config:pretrained",
            requires=("torch", "transformers"),
            extra="models",
        )
    ]
