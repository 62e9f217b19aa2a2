"""GGUF files of tiny models, written by llama.cpp's rules and by none of the code under test."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from vlv_plugins import _hub
from vlv_plugins.causal_lm._head import CausalLm

SHARED = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
}
NORMS = {
    "qwen2": {"post_attention_layernorm": "ffn_norm"},
    "llama": {"post_attention_layernorm": "ffn_norm"},
    "qwen3": {
        "post_attention_layernorm": "ffn_norm",
        "self_attn.q_norm": "attn_q_norm",
        "self_attn.k_norm": "attn_k_norm",
    },
}
QUANTISED = "attn_output"
"""the tiny layers' weights that are as wide as a block of Q4_1"""


def write_gguf(file: Path, part: CausalLm, kind: str) -> None:
    """A head's model and the byte tokenizer; QUANTISED weights in Q4_1, others in float32."""
    writer = gguf.GGUFWriter(file, kind)
    _describe(writer, part.lm.config)
    _speak(writer, part.vocab_size)
    for name, tensor in part.lm.state_dict().items():
        if name != "lm_head.weight":
            theirs = _their_name(name, kind)
            _add(writer, theirs, _their_layout(tensor.numpy(), theirs, kind, part.lm.config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def dequantised(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """What Q4_1 keeps of weights (rows, columns)."""
    return q4_1(gguf.quantize(weights, gguf.GGMLQuantizationType.Q4_1))


def q4_1(rows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """ggml's definition: blocks of a scale, a minimum, and 32 nibbles, low ones first."""
    blocks = rows.reshape(len(rows), -1, 20)
    scale, least = np.moveaxis(blocks[..., :4].copy().view(np.float16).astype(np.float32), -1, 0)
    nibbles = np.concatenate([blocks[..., 4:] & 15, blocks[..., 4:] >> 4], axis=-1)
    return (nibbles * scale[..., None] + least[..., None]).astype(np.float32).reshape(len(rows), -1)


def _describe(writer: Any, config: Any) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    if config.model_type == "qwen3":
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)


def _speak(writer: Any, vocab_size: int) -> None:
    known = sorted(_hub.byte_tokenizer().get_vocab().items(), key=lambda pair: pair[1])
    tokens = [*(token for token, _ in known), "re", "<unk>", "<pad>", "<bos>", "<eos>"]
    tokens += [f"unused{number}" for number in range(len(tokens), vocab_size)]
    kinds = [3 if token.startswith("<|") else 1 for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["r e"])
    writer.add_eos_token_id(256)


def _add(writer: Any, name: str, weights: NDArray[np.float32]) -> None:
    if QUANTISED in name:
        kind = gguf.GGMLQuantizationType.Q4_1
        writer.add_tensor(name, gguf.quantize(weights, kind), raw_dtype=kind)
    else:
        writer.add_tensor(name, weights)


def _their_name(name: str, kind: str) -> str:
    stem, _, suffix = name.rpartition(".")
    if stem in SHARED:
        return f"{SHARED[stem]}.{suffix}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{(SHARED | NORMS[kind])[rest]}.{suffix}"


def _their_layout(
    weights: NDArray[np.float32], name: str, kind: str, config: Any
) -> NDArray[np.float32]:
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    layer = name.split(".")[-2]
    if kind == "llama" and layer in heads:
        halves = weights.reshape(heads[layer], 2, len(weights) // heads[layer] // 2, -1)
        return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weights.shape))
    return weights
