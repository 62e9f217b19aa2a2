"""Heads of several families keep the contract, with adapters and without."""

from typing import Any

from tests.plugins.causal_lm.tiny import options
from vlv_core.conformance import HeadConformance
from vlv_plugins import causal_lm

SPEC = next(iter(causal_lm.vlv_heads()))
CAPTIONS = ("a red circle", "un œuf, 2 Käse & <|endoftext|> in it", "x")


class TestQwen2(HeadConformance):
    spec = SPEC
    config: dict[str, Any] = options("qwen2")
    captions = CAPTIONS


class TestLlamaWithAdapters(HeadConformance):
    spec = SPEC
    config: dict[str, Any] = options("llama", lora_rank=2)
    captions = CAPTIONS


class TestGemma3(HeadConformance):
    spec = SPEC
    config: dict[str, Any] = options("gemma3_text", gradient_checkpointing=True)
    captions = CAPTIONS
