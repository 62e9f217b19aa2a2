"""Decoding with `mini-lm`: one token a row and call, keys and values in a static cache."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlv_core import TopK
from vlv_core.errors import UsageError

if TYPE_CHECKING:
    from vlv_plugins.mini._head import MiniLm


class MiniStepper:
    """One decode in flight. All rows stand at the same position."""

    def __init__(self, head: "MiniLm", prefix: Tensor, capacity: int) -> None:
        if not prefix.shape[1] < capacity <= head.max_length:
            raise UsageError(
                f"a capacity of {capacity} tokens does not fit: the prefix has {prefix.shape[1]} "
                f"and mini-lm at most {head.max_length}",
                hint="lower max_new_tokens",
            )
        self.capacity = capacity
        self.head = head
        self.prefix = prefix.to(head.model.embed_tokens.weight.dtype)
        self.position = 0
        self.cache: list[tuple[Tensor, Tensor]] = []

    def prefill(self, k: int) -> TopK:
        """Read the prefix; the best k first words of each row."""
        model = self.head.model
        shape = (len(self.prefix), model.heads, self.capacity, model.head_width)
        self.cache = [
            (self.prefix.new_zeros(shape), self.prefix.new_zeros(shape)) for _ in model.layers
        ]
        return self._advance(self.prefix, k)

    def step(self, tokens: NDArray[np.int64], k: int) -> TopK:
        """Append tokens (R,); the best k next words of each row."""
        ids = torch.from_numpy(tokens).to(self.prefix.device)
        return self._advance(self.head.model.embed_tokens(ids)[:, None], k)

    def select(self, rows: NDArray[np.int64]) -> None:
        """Keep these rows of the cache."""
        index = torch.from_numpy(rows).to(self.prefix.device)
        self.cache = [(key[index], value[index]) for key, value in self.cache]

    @torch.inference_mode()
    def _advance(self, x: Tensor, k: int) -> TopK:
        hidden = self.head.model(x, cache=self.cache, start=self.position)[:, -1]
        self.position += x.shape[1]
        log_probs = self.head.logits(hidden).float().log_softmax(dim=-1)
        best = log_probs.topk(min(k, log_probs.shape[-1]), dim=-1)
        return TopK(best.values.cpu().numpy(), best.indices.cpu().numpy())
