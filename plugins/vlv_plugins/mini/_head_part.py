"""`mini-lm` as an export part: the same weights, every operation a tensor's, the cache declared."""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlv_core.ops import cached_attention, rotary
from vlv_core.parts import ExportPart, head_part

if TYPE_CHECKING:
    from vlv_plugins.mini._head import MiniLm


class HeadGraph(nn.Module):
    """prefix (B, M, W), tokens (B, T), position (B,), past... -> logits (B, V), present..."""

    cos: Tensor
    sin: Tensor

    def __init__(self, head: "MiniLm", *, cos: Tensor, sin: Tensor) -> None:
        super().__init__()
        self.model = head.model
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(
        self, prefix: Tensor, tokens: Tensor, position: Tensor, *past: Tensor
    ) -> tuple[Tensor, ...]:
        x = torch.cat([prefix, self.model.embed_tokens(tokens)], dim=1)
        present: list[Tensor] = []
        for index, layer in enumerate(self.model.layers):
            pair = past[2 * index], past[2 * index + 1]
            x = self._layer(layer, x, position, pair, present)
        last = self.model.norm(x[:, -1:])[:, 0]
        return (F.linear(last, self.model.embed_tokens.weight), *present)

    def _layer(
        self,
        layer: Any,
        x: Tensor,
        position: Tensor,
        past: tuple[Tensor, Tensor],
        present: list[Tensor],
    ) -> Tensor:
        attention, normed = layer.self_attn, layer.input_layernorm(x)
        query, key, value = (
            projection(normed).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        query, key = (rotary(each, self.cos, self.sin, position=position) for each in (query, key))
        mixed, pair = cached_attention(query, key, value, past, position=position)
        present += pair
        x = x + attention.o_proj(mixed.transpose(1, 2).flatten(2))
        return x + layer.mlp(layer.post_attention_layernorm(x))


def make_part(head: "MiniLm", *, angles: Tensor) -> ExportPart:
    """The part; `angles` (P, D / 2) of all positions."""
    backbone = head.model
    return head_part(
        HeadGraph(head, cos=angles.cos(), sin=angles.sin()),
        dim=head.dim,
        vocab_size=head.vocab_size,
        max_length=head.max_length,
        cache=[(backbone.heads, backbone.head_width)] * len(backbone.layers),
    )
