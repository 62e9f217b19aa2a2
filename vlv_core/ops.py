"""The few operations that exporters translate per variant; here is their plain meaning.

While a module is traced by torch.export each becomes one node of the namespace `vlv`, so that an
exporter can pick its own form of it: standard operators, a runtime's fused kernel, or a cache
that is written in place. Otherwise they are plain torch and differentiable.

Shape legend: B batch, H heads, L query length, S key length, D width of a head, C cache capacity.
"""

import math

import torch
from torch import Tensor


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Scaled dot-product attention, (B, H, L, D) x (B, Hkv, S, D) -> (B, H, L, D).

    `mask` is additive and broadcasts to (B, H, L, S); `causal` masks the future of equally long
    query and key. With fewer key heads than query heads each key head serves H / Hkv of them.
    `scale` of the scores is 1 / sqrt(D) if None.
    """
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    if torch.compiler.is_exporting():
        return torch.ops.vlv.attention(query, key, value, mask, causal, scale)
    return _attention(query, key, value, mask, causal, scale)


def cached_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past: tuple[Tensor, Tensor],
    *,
    position: Tensor,
    scale: float | None = None,
    window: int = 0,
    softcap: float = 0.0,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Append key and value (B, Hkv, L, D) to the cache `past`, and attend to what it then holds.

    `past` is a pair (B, Hkv, C, D) filled up to `position` (B,); what lies beyond is never seen.
    Query l of a row sees keys 0 .. position + l, of them the last `window` where that is not 0.
    `softcap` c squashes scores to c tanh(scores / c), as Gemma 2 does; 0 leaves them.
    Answers (B, H, L, D) and the new cache, which compiled graphs write in place.
    """
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    run = torch.ops.vlv.cached_attention if torch.compiler.is_exporting() else _cached_attention
    out, keys, values = run(query, key, value, *past, position, scale, window, softcap)
    return out, (keys, values)


def rotary(x: Tensor, cos: Tensor, sin: Tensor, *, position: Tensor) -> Tensor:
    """Turn x (B, H, L, D) to its positions (Su et al., arXiv 2104.09864), as Llama pairs halves.

    Row b starts at position[b]; `cos` and `sin` (P, R / 2) are tables over positions. The first R
    of D numbers are turned, the rest is left.
    """
    if torch.compiler.is_exporting():
        return torch.ops.vlv.rotary(x, position, cos, sin)
    return _rotary(x, position, cos, sin)


def rms_norm(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    """x (..., W) over its root mean square, times weight (W,), in float32 (arXiv 1910.07467)."""
    if torch.compiler.is_exporting():
        return torch.ops.vlv.rms_norm(x, weight, eps)
    return _rms_norm(x, weight, eps)


def cache_write(cache: Tensor, new: Tensor, position: Tensor) -> Tensor:
    """Write new (B, H, L, D) into cache (B, H, C, D) from position (B,) on, in place."""
    steps = position[:, None] + torch.arange(new.shape[2], device=new.device)
    index = steps[:, None, :, None].expand(-1, new.shape[1], -1, new.shape[3])
    return cache.scatter_(2, index, new.to(cache.dtype))


def _attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float
) -> Tensor:
    # Two products and a softmax, because torch's fused CPU kernel has a slow backward.
    key, value = _shared(key, query), _shared(value, query)
    scores = (query * scale) @ key.transpose(-1, -2)
    if causal:
        length = query.shape[-2]
        future = torch.full((length, length), float("-inf"), device=query.device)
        scores = scores + future.triu(1).to(scores.dtype)
    if mask is not None:
        scores = scores + mask.to(scores.dtype)
    return scores.softmax(dim=-1).to(value.dtype) @ value


def _cached_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_key: Tensor,
    past_value: Tensor,
    position: Tensor,
    scale: float,
    window: int,
    softcap: float,
) -> tuple[Tensor, Tensor, Tensor]:
    keys = cache_write(past_key.clone(), key, position)
    values = cache_write(past_value.clone(), value, position)
    slots = torch.arange(keys.shape[2], device=keys.device)
    own = position[:, None] + torch.arange(query.shape[2], device=keys.device)
    seen = slots <= own[:, :, None]
    if window:
        seen &= slots > own[:, :, None] - window
    scores = (query * scale) @ _shared(keys, query).transpose(-1, -2)
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.float().masked_fill(~seen[:, None], float("-inf"))
    weights = scores.softmax(dim=-1).to(query.dtype)
    return weights @ _shared(values, query).to(query.dtype), keys, values


def _rotary(x: Tensor, position: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    steps = position[:, None] + torch.arange(x.shape[2], device=x.device)
    cosines, sines = (table[steps][:, None].to(x.dtype) for table in (cos, sin))
    turned, rest = x.tensor_split([2 * cos.shape[-1]], dim=-1)
    first, second = turned.chunk(2, dim=-1)
    halves = (first * cosines - second * sines, second * cosines + first * sines)
    return torch.cat([*halves, rest], dim=-1)


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.float()
    normed = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    return (normed * weight.float()).to(x.dtype)


def _shared(key: Tensor, query: Tensor) -> Tensor:
    """(B, Hkv, S, D) -> (B, H, S, D): each key head once for every query head that it serves."""
    groups = query.shape[1] // key.shape[1]
    return key if groups == 1 else key.repeat_interleave(groups, dim=1)


# What torch.export records; they run only if a traced program itself is run.
_attention_node = torch.library.custom_op("vlv::attention", _attention, mutates_args=())
_cached_attention_node = torch.library.custom_op(
    "vlv::cached_attention", _cached_attention, mutates_args=()
)
_rotary_node = torch.library.custom_op("vlv::rotary", _rotary, mutates_args=())
_rms_norm_node = torch.library.custom_op("vlv::rms_norm", _rms_norm, mutates_args=())


@_attention_node.register_fake
def _attention_shape(query: Tensor, key: Tensor, value: Tensor, *rest: object) -> Tensor:
    return query.new_empty(*query.shape[:-1], value.shape[-1])


@_cached_attention_node.register_fake
def _cached_attention_shapes(
    query: Tensor, key: Tensor, value: Tensor, past_key: Tensor, past_value: Tensor, *rest: object
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(query), torch.empty_like(past_key), torch.empty_like(past_value)


@_rotary_node.register_fake
@_rms_norm_node.register_fake
def _shape_of_x(x: Tensor, *rest: object) -> Tensor:
    return torch.empty_like(x)
