"""Decoding with a causal language model: a preallocated cache, attended to as far as it is filled.

Shape legend: R rows, H key heads, C KV capacity, D head width, V vocabulary.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from vlv_core import TopK


class PreallocatedLayer(DynamicLayer):
    """One layer's keys and values (R, H, C, D): written in place, answered as far as filled.

    The library's growing cache copies all it holds at every step; its static one attends to the
    whole capacity. Layers with a sliding window keep everything too: their mask hides the rest.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.filled = 0
        self.stores: tuple[Tensor, ...] = ()
        self.spares: tuple[Tensor, ...] = ()

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.stores = self._allocate(key_states, value_states, rows=len(key_states))
        self._show(0)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append states (R, H, L, D); all keys and values so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, stop = self.filled, self.filled + key_states.shape[2]
        for store, states in zip(self.stores, (key_states, value_states), strict=True):
            store[:, :, start:stop] = states
        return self._show(stop)

    def select(self, rows: Tensor) -> None:
        """Keep these rows; two sets of buffers take turns, so that steps allocate nothing."""
        if len(self.spares) == 0 or len(self.spares[0]) != len(rows):
            self.spares = self._allocate(*self.stores, rows=len(rows))
        for store, spare in zip(self.stores, self.spares, strict=True):
            torch.index_select(store[:, :, : self.filled], 0, rows, out=spare[:, :, : self.filled])
        self.stores, self.spares = self.spares, self.stores
        self._show(self.filled)

    def _allocate(self, *like: Tensor, rows: int) -> tuple[Tensor, ...]:
        return tuple(
            each.new_empty(rows, each.shape[1], self.capacity, each.shape[3]) for each in like
        )

    def _show(self, length: int) -> tuple[Tensor, Tensor]:
        self.filled = length
        keys, values = (store[:, :, :length] for store in self.stores)
        self.keys, self.values = keys, values
        return keys, values


class CausalLmStepper:
    """One decode in flight on any device; no row is padded, all stand at the same position."""

    def __init__(self, lm: Any, prefix: Tensor, capacity: int) -> None:
        self.capacity = capacity
        self.lm = lm
        self.prefix = prefix
        self.cache: Any = None

    @torch.inference_mode()
    def prefill(self, k: int) -> TopK:
        """Read the prefix; the best k first words of each row."""
        layers = self.lm.config.num_hidden_layers
        self.cache = Cache(layers=[PreallocatedLayer(self.capacity) for _ in range(layers)])
        return self._advance(k, inputs_embeds=self.prefix)

    @torch.inference_mode()
    def step(self, tokens: NDArray[np.int64], k: int) -> TopK:
        """Append tokens (R,); the best k next words of each row."""
        ids = torch.from_numpy(tokens).to(self.prefix.device)
        return self._advance(k, input_ids=ids[:, None])

    @torch.inference_mode()
    def select(self, rows: NDArray[np.int64]) -> None:
        """Keep these rows of the cache."""
        index = torch.from_numpy(rows).to(self.prefix.device)
        for layer in self.cache.layers:
            layer.select(index)

    def _advance(self, k: int, **inputs: Tensor) -> TopK:
        out = self.lm(**inputs, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        return best(out.logits[:, -1], k)


def best(logits: Tensor, k: int) -> TopK:
    """logits (R, V) -> the k likeliest tokens of each row, log-softmax over V in float32."""
    log_probs = logits.float().log_softmax(dim=-1)
    if k == 1:
        # The logits decide: distinct ones can round to one log-probability.
        ids = logits.argmax(dim=-1, keepdim=True)
        return TopK(log_probs.gather(-1, ids).cpu().numpy(), ids.cpu().numpy())
    top = log_probs.topk(min(k, log_probs.shape[-1]), dim=-1)
    return TopK(top.values.cpu().numpy(), top.indices.cpu().numpy())
