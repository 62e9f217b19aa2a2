"""`mini-lm`: a small decoder-only language model, in plain torch.

Architecture and parameter names are those of Llama (Touvron et al., 2023) with tied embeddings, so
that transformers' LlamaForCausalLM loads its weights and can check it.
Shape legend: B batch, R rows, L length, M prefix, H heads, D head width,
P positions, C KV capacity.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlv_core import Near
from vlv_core.ops import attention
from vlv_core.parts import ExportPart
from vlv_plugins.mini._head_part import make_part
from vlv_plugins.mini._stepper import MiniStepper
from vlv_plugins.mini._tokenizer import END, bundled_tokenizer, load_tokenizer
from vlv_plugins.mini.config import LmConfig

ROPE_BASE = 10000.0


class SelfAttention(nn.Module):
    """Causal attention with rotary positions (Su et al., 2021)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, angles: Tensor, cache: Tensor | None) -> Tensor:
        """x (B, L, W); its keys and values are kept in `cache` (2, B, H, C, D)."""
        query, key, value = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = rotate(query, angles), rotate(key, angles)
        if cache is not None:
            cache[0, :, :, : x.shape[1]], cache[1, :, :, : x.shape[1]] = key, value
        mixed = attention(query, key, value, causal=x.shape[1] > 1)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


class GatedMlp(nn.Module):
    """down(silu(gate(x)) * up(x)) (Shazeer, 2020)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Pre-norm block."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(width, eps=1e-6)
        self.self_attn = SelfAttention(width, heads)
        self.post_attention_layernorm = nn.RMSNorm(width, eps=1e-6)
        self.mlp = GatedMlp(width, hidden)

    def forward(self, x: Tensor, angles: Tensor, cache: Tensor | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), angles, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Backbone(nn.Module):
    """Embeddings, layers and the last norm."""

    def __init__(self, *, vocab: int, width: int, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocab, width)
        nn.init.normal_(self.embed_tokens.weight, std=width**-0.5)
        self.heads = heads
        self.head_width = width // heads
        self.layers = nn.ModuleList(Layer(width, heads, hidden) for _ in range(depth))
        self.norm = nn.RMSNorm(width, eps=1e-6)

    def forward(self, x: Tensor, *, cache: Tensor | None = None) -> Tensor:
        """Embeddings (B, L, W) -> hidden states (B, L, W).

        Keys and values are kept in `cache` (layers, 2, B, H, C, D) for the steps after it.
        """
        angles = rope_angles(x.shape[1], self.head_width, device=x.device)
        for index, layer in enumerate(self.layers):
            x = layer(x, angles, None if cache is None else cache[index])
        return self.norm(x)


class MiniLm(nn.Module):
    """prefix (B, M, Dl) -> words. The output layer is the embedding table, transposed."""

    eos = (END,)

    def __init__(self, config: LmConfig) -> None:
        super().__init__()
        self.dim = config.width
        self.vocab_size = config.vocab_size
        self.max_length = config.max_length
        self.tokenizer = bundled_tokenizer()
        self.model = Backbone(
            vocab=config.vocab_size,
            width=config.width,
            depth=config.depth,
            heads=config.heads,
            hidden=config.hidden,
        )

    def tokenize(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """ids (B, L) int64, end of text appended and as padding; mask (B, L) of what counts."""
        rows = [[*encoding.ids, END] for encoding in self.tokenizer.encode_batch(list(captions))]
        length = max(map(len, rows))
        ids = torch.tensor([row + [END] * (length - len(row)) for row in rows])
        lengths = torch.tensor([len(row) for row in rows])
        return ids, torch.arange(length) < lengths[:, None]

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids))

    def loss(self, prefix: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Negative log-likelihood summed over the masked tokens, (B,)."""
        words = self.model.embed_tokens(ids[:, :-1])
        hidden = self.model(torch.cat([prefix.to(words.dtype), words], dim=1))
        logits = self.logits(hidden[:, prefix.shape[1] - 1 :])
        each = F.cross_entropy(logits.flatten(0, 1).float(), ids.flatten(), reduction="none")
        return (each.view_as(ids) * mask).sum(dim=1)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden (..., W) -> logits (..., V)."""
        return hidden @ self.model.embed_tokens.weight.T

    def start(self, prefix: Tensor, capacity: int) -> MiniStepper:
        return MiniStepper(self, prefix, capacity, angles=self._angles())

    def export_part(self) -> ExportPart:
        """The graph that exporters compile."""
        return make_part(self, angles=self._angles())

    def tokenizer_json(self) -> str:
        """The tokenizer as a tokenizer.json, which decodes as `decode` does."""
        return self.tokenizer.to_str()

    def load_assets(self, folder: Path) -> None:
        """Read the tokenizer of a model folder's part."""
        self.tokenizer = load_tokenizer(folder)

    def save_assets(self, folder: Path) -> None:
        """Write the tokenizer beside the weights."""
        self.tokenizer.save(str(folder / "tokenizer.json"))

    def _angles(self) -> Tensor:
        """Of all positions, (P, D / 2)."""
        device = self.model.embed_tokens.weight.device
        return rope_angles(self.max_length, self.model.head_width, device=device)


def rope_angles(length: int, width: int, *, device: torch.device) -> Tensor:
    """Angles of the first positions, (L, width / 2)."""
    rates = ROPE_BASE ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    return torch.arange(length, device=device)[:, None] * rates


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn the halves of x (B, H, L, D) by angles (L, D / 2), as Llama pairs them."""
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def build(config: LmConfig, near: Near) -> MiniLm:
    """Architecture only."""
    del near
    return MiniLm(config)
