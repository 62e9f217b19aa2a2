"""`causal-lm` as an export part: the library's own forward pass, its inner operations replaced.

A copy of the model shares every weight with it. In the copy adapters are merged, norms and the
rotary tables are `vlv_core.ops`' own; attention and rotation are handed in for one pass at a time,
so that the library itself is never changed.
Shape legend: B batch, M prefix, T tokens, H heads, L = M + T, D head width, P positions, V words.
"""

import copy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vlv_core.errors import UsageError
from vlv_core.ops import cached_attention, rms_norm, rotary
from vlv_core.parts import ExportPart, head_part
from vlv_plugins.causal_lm._lora import merge_adapters

if TYPE_CHECKING:
    from vlv_plugins.causal_lm._head import CausalLm

ATTENTION = "vlv_cached"
"""our name among the library's attention functions; one that it has no masks for"""


class HeadGraph(nn.Module):
    """prefix (B, M, Dl), tokens (B, T), position (B,), past... -> logits (B, V), present..."""

    def __init__(self, lm: Any) -> None:
        super().__init__()
        self.lm = lm

    def forward(
        self, prefix: Tensor, tokens: Tensor, position: Tensor, *past: Tensor
    ) -> tuple[Tensor, ...]:
        embedded = self.lm.get_input_embeddings()(tokens)
        handed = Handed(past, position)
        with handed.attached(self.lm):
            out = self.lm(
                inputs_embeds=torch.cat([prefix, embedded], dim=1),
                position_ids=position[:, None],
                past_key_values=handed,
                use_cache=True,
                logits_to_keep=1,
            )
        return (out.logits[:, -1], *handed.present)


class Handed(Cache):
    """A cache that is a graph's input and output: the library hands keys and values through it."""

    def __init__(self, past: Sequence[Tensor], position: Tensor) -> None:
        super().__init__(layers=[])
        self.past, self.position = past, position
        self.present: list[Tensor] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """The layer's new states as they are: `attend` appends them."""
        assert 2 * layer_idx == len(self.present), "layers run in order"
        return key_states, value_states

    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        scaling: float,
        sliding_window: int | None = None,
        softcap: float | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """What the library calls for attention: query (B, H, L, D) -> (B, L, H, D)."""
        del module, kwargs
        assert attention_mask is None
        index = len(self.present)
        out, pair = cached_attention(
            query,
            key,
            value,
            (self.past[index], self.past[index + 1]),
            position=self.position,
            scale=scaling,
            window=sliding_window or 0,
            softcap=softcap or 0.0,
        )
        self.present += pair
        return out.transpose(1, 2), None

    def rotate(
        self, query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1
    ) -> tuple[Tensor, Tensor]:
        """In place of the library's apply_rotary_pos_emb; `cos` and `sin` are whole tables."""
        assert unsqueeze_dim == 1
        turned = (rotary(each, cos, sin, position=self.position) for each in (query, key))
        return next(turned), next(turned)

    @contextmanager
    def attached(self, lm: Any) -> Iterator[None]:
        """Let the library's layers attend and rotate by this cache, until the end of the block."""
        family = sys.modules[type(lm.model).__module__]
        ALL_ATTENTION_FUNCTIONS[ATTENTION] = self.attend
        try:
            with mock.patch.object(family, "apply_rotary_pos_emb", self.rotate):
                yield
        finally:
            del ALL_ATTENTION_FUNCTIONS[ATTENTION]


class Tables(nn.Module):
    """The library's rotary embedding, computed for all positions: cos and sin (P, R / 2)."""

    def __init__(self, rotary_emb: Any, *, length: int, like: Tensor) -> None:
        super().__init__()
        positions = torch.arange(length, device=like.device)[None]
        # Gemma 3 has one rotation for each kind of layer.
        for kind in getattr(rotary_emb, "layer_types", [""]):
            pair = rotary_emb(like, positions, **({"layer_type": kind} if kind else {}))
            for name, table in zip(("cos", "sin"), pair, strict=True):
                first, second = table[0].chunk(2, dim=-1)
                assert torch.equal(first, second), "the library turns halves alike"
                self.register_buffer(f"{kind}{name}", first.contiguous(), persistent=False)

    def forward(self, x: Tensor, position_ids: Tensor, layer_type: str = "") -> tuple[Any, Any]:
        del x, position_ids
        return getattr(self, f"{layer_type}cos"), getattr(self, f"{layer_type}sin")


class RmsNorm(nn.Module):
    """x (..., W) -> x over its root mean square, times weight (W,)."""

    def __init__(self, weight: Tensor, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, eps=self.eps)


@torch.no_grad()
def make_part(head: "CausalLm") -> ExportPart:
    """The part, from the head's weights as they are now.

    Raises UsageError for positions that depend on a text's length.
    """
    described = head.lm.config
    _check_positions(described, head.max_length)
    heads = described.num_key_value_heads or described.num_attention_heads
    width = head.lm.model.layers[0].self_attn.head_dim
    return head_part(
        HeadGraph(_rewritten(head.lm, length=head.max_length)),
        dim=head.dim,
        vocab_size=head.vocab_size,
        max_length=head.max_length,
        cache=[(heads, width)] * described.num_hidden_layers,
    )


def _rewritten(lm: Any, *, length: int) -> Any:
    """A copy with the same weights, in eval mode, that attends, turns and norms by `ops`."""
    shared = {id(tensor): tensor for tensor in (*lm.parameters(), *lm.buffers())}
    lm = merge_adapters(copy.deepcopy(lm, shared))
    lm.config._attn_implementation = ATTENTION
    table = lm.get_input_embeddings().weight
    lm.model.rotary_emb = Tables(lm.model.rotary_emb, length=length, like=table)
    norms = [name for name, module in lm.named_modules() if _is_norm(module)]
    for name in norms:
        lm.set_submodule(name, _plain_norm(lm.get_submodule(name)))
    return lm.eval().requires_grad_(False)


def _is_norm(module: nn.Module) -> bool:
    return type(module).__name__.endswith("RMSNorm")


def _plain_norm(norm: Any) -> nn.Module:
    """As `ops.rms_norm`, if the family's weight w is meant as w or, in Gemma, as 1 + w."""
    eps: float = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
    weight = norm.weight.detach()
    # Rows of many sizes: in the smallest it is `eps` that decides.
    sizes = torch.logspace(-5, 2, 8, device=weight.device)[:, None]
    probe = torch.linspace(-1, 1, len(weight), device=weight.device) * sizes
    for effective in (weight, 1 + weight):
        if torch.allclose(rms_norm(probe, effective, eps=eps), norm(probe), rtol=1e-5, atol=1e-6):
            return RmsNorm(effective, eps)
    return norm


def _check_positions(described: Any, max_length: int) -> None:
    """LongRoPE turns all positions otherwise once a text is long: no table holds both."""
    parameters = described.rope_parameters or {}
    trained = parameters.get("original_max_position_embeddings", max_length)
    if parameters.get("rope_type") == "longrope" and max_length > trained:
        raise UsageError(
            f"max_length is {max_length}, but beyond {trained} tokens this model's positions "
            "change with a text's length, which no graph holds",
            hint=f"set the head's max_length to {trained} or less",
        )
