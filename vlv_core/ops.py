"""The few operations that exporters translate per variant; here is their plain meaning.

Shape legend: B batch, H heads, L query length, S key length, D width of a head, C cache capacity.
"""

import math

import torch
from torch import Tensor


def attention(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, causal: bool = False
) -> Tensor:
    """Scaled dot-product attention, (B, H, L, D) x (B, Hkv, S, D) -> (B, H, L, D).

    `mask` is additive and broadcasts to (B, H, L, S); `causal` masks the future of equally long
    query and key. With fewer key heads than query heads each key head serves H / Hkv of them.
    Written as two products and a softmax because torch's fused CPU kernel has a slow backward.
    """
    if key.shape[1] != query.shape[1]:
        groups = query.shape[1] // key.shape[1]
        key = key.repeat_interleave(groups, dim=1)
        value = value.repeat_interleave(groups, dim=1)
    scores = (query * (1.0 / math.sqrt(query.shape[-1]))) @ key.transpose(-1, -2)
    if causal:
        length = query.shape[-2]
        future = torch.full((length, length), float("-inf"), device=query.device)
        scores = scores + future.triu(1).to(scores.dtype)
    if mask is not None:
        scores = scores + mask.to(scores.dtype)
    return scores.softmax(dim=-1).to(value.dtype) @ value


def cache_write(cache: Tensor, new: Tensor, position: Tensor) -> Tensor:
    """Write new (B, H, L, D) into cache (B, H, C, D) from position (B,) on, in place."""
    steps = position[:, None] + torch.arange(new.shape[2], device=new.device)
    index = steps[:, None, :, None].expand(-1, new.shape[1], -1, new.shape[3])
    return cache.scatter_(2, index, new.to(cache.dtype))
