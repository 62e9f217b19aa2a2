"""Decoding with `mini-lm`: one token a row and call, keys and values in a static cache.

Shape legend: N layers, R rows, H heads, D head width, C positions of the cache, W width.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vlv_core import TopK
from vlv_core.errors import UsageError

if TYPE_CHECKING:
    from vlv_plugins.mini._head import MiniLm

ROOM = 64
"""tokens that the cache first holds beside the prefix; it doubles that room when it is full, so
that short captions do not pay for a long capacity"""


class MiniStepper:
    """One decode in flight. All rows stand at the same position."""

    def __init__(self, head: "MiniLm", prefix: Tensor, capacity: int, *, angles: Tensor) -> None:
        """`angles` (P, D / 2) of all positions."""
        if not prefix.shape[1] < capacity <= head.max_length:
            raise UsageError(
                f"a capacity of {capacity} tokens does not fit: the prefix has {prefix.shape[1]} "
                f"and mini-lm at most {head.max_length}",
                hint="lower max_new_tokens",
            )
        self.capacity = capacity
        self.head = head
        self.prefix = prefix.to(head.model.embed_tokens.weight.dtype)
        self.rows, self.position = self.prefix.shape[:2]
        self.angles = angles
        self.cache = self.prefix.new_empty(0)

    @torch.inference_mode()
    def prefill(self, k: int) -> TopK:
        """Read the prefix; the best k first words of each row."""
        model = self.head.model
        self.turn = _turn_tables(self.angles, dtype=self.prefix.dtype)
        self.layers = [_weights(layer) for layer in model.layers]
        room = min(self.position + ROOM, self.capacity)
        # Never read beyond what was written, so that nothing need be cleared.
        self.cache = self.prefix.new_empty(
            len(self.layers), 2, self.rows, model.heads, room, model.head_width
        )
        return self._best(model(self.prefix, cache=self.cache)[:, -1], k)

    @torch.inference_mode()
    def step(self, tokens: NDArray[np.int64], k: int) -> TopK:
        """Append tokens (R,); the best k next words of each row."""
        if self.position == self.cache.shape[4]:
            self._grow()
        model, last = self.head.model, self.position
        self.position += 1
        held = self.cache[:, :, : self.rows].flatten(2, 3)
        parts = (
            held[:, :, :, last],
            held[:, 0, :, : self.position].transpose(-1, -2),
            held[:, 1, :, : self.position],
        )
        ids = torch.from_numpy(tokens).to(self.prefix.device)
        x = F.embedding(ids, model.embed_tokens.weight)
        for layer, *views in zip(self.layers, *(part.unbind() for part in parts), strict=True):
            x = _step(x, layer, *views, turn=self.turn[last])
        return self._best(model.norm(x), k)

    @torch.inference_mode()
    def select(self, rows: NDArray[np.int64]) -> None:
        """Keep these rows (R',): repeats, reorders or drops; rows that stay are not copied."""
        index = torch.from_numpy(rows).to(self.prefix.device)
        if len(rows) > self.cache.shape[2]:
            self.cache = self.cache[:, :, index]
        else:
            moved = torch.from_numpy(np.flatnonzero(rows != np.arange(len(rows)))).to(index.device)
            filled = self.cache[:, :, :, :, : self.position]
            filled[:, :, moved] = filled[:, :, index[moved]]
        self.rows = len(rows)

    def _grow(self) -> None:
        length = self.prefix.shape[1]
        room = min(length + 2 * (self.position - length), self.capacity)
        old = self.cache[:, :, : self.rows]
        self.cache = old.new_empty(*old.shape[:4], room, old.shape[5])
        self.cache[:, :, :, :, : self.position] = old

    def _best(self, hidden: Tensor, k: int) -> TopK:
        log_probs = self.head.logits(hidden).float().log_softmax(dim=-1)
        best = log_probs.topk(min(k, log_probs.shape[-1]), dim=-1)
        return TopK(best.values.cpu().numpy(), best.indices.cpu().numpy())


class _Weights(NamedTuple):
    """A layer's own parameters: looking them up in modules costs as much as a small product."""

    norm: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor
    mlp_norm: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor


def _weights(layer: Any) -> _Weights:
    attention, mlp = layer.self_attn, layer.mlp
    modules = [layer.input_layernorm, attention.q_proj, attention.k_proj, attention.v_proj]
    modules += [attention.o_proj, layer.post_attention_layernorm]
    modules += [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    return _Weights(*(module.weight for module in modules))


def _step(
    x: Tensor, layer: _Weights, slot: Tensor, keys: Tensor, values: Tensor, *, turn: Tensor
) -> Tensor:
    """The layer at one position, x (R, W).

    Writes key and value into `slot` (2, R H, D), the last position of `keys` (R H, D, C) and
    `values` (R H, C, D). Few operations: of so small ones, each costs more to call than to do.
    """
    width = (x.shape[-1],)
    normed = F.rms_norm(x, width, layer.norm, 1e-6)
    projected = [F.linear(normed, weight) for weight in (layer.query, layer.key, layer.value)]
    whole = torch.stack(projected).view(3, slot.shape[1], slot.shape[2])
    turned = torch.addcmul(whole * turn[0], whole.roll(slot.shape[2] // 2, -1), turn[1])
    slot.copy_(turned[1:])
    weights = torch.bmm(turned[0].unsqueeze(1), keys).softmax(dim=-1)
    x = x + F.linear(torch.bmm(weights, values).view(x.shape), layer.out)
    normed = F.rms_norm(x, width, layer.mlp_norm, 1e-6)
    hidden = F.silu(F.linear(normed, layer.gate)) * F.linear(normed, layer.up)
    return x + F.linear(hidden, layer.down)


def _turn_tables(angles: Tensor, *, dtype: torch.dtype) -> Tensor:
    """What queries, keys and values are multiplied by, (P, 2, 3, 1, D): first as they stand, then
    with their halves swapped. Scores' scale is in the query's; values are left as they are.
    """
    cos = torch.cat([angles.cos(), angles.cos()], dim=-1)
    sin = torch.cat([-angles.sin(), angles.sin()], dim=-1)
    scale = cos.shape[-1] ** -0.5
    tables = [
        torch.stack([cos * scale, cos, torch.ones_like(cos)], dim=1),
        torch.stack([sin * scale, sin, torch.zeros_like(sin)], dim=1),
    ]
    return torch.stack(tables, dim=1).unsqueeze(3).to(dtype)
