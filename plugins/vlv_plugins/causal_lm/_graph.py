"""Decoding on CUDA: one token's forward pass is captured once and replayed at every step.

A graph needs fixed shapes and addresses: the cache has its full capacity under a mask, and rows
that left stay as slots whose answers nobody reads.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.cache_utils import Cache, StaticLayer

from vlv_core import TopK
from vlv_plugins.causal_lm._stepper import best

WARM_UPS = 2
"""runs before the capture, in which libraries allocate what a capture must not"""


class GraphStepper:
    """One decode in flight. Without CUDA the same pass runs uncaptured, to be tested anywhere."""

    def __init__(self, lm: Any, prefix: Tensor, capacity: int) -> None:
        self.capacity = capacity
        self.lm = lm
        self.prefix = prefix
        self.rows = self.slots = len(prefix)
        self.layers: list[Any] = []
        self.ids = torch.zeros(self.slots, 1, dtype=torch.int64, device=prefix.device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.logits = prefix
        """(slots, V), rewritten by every replay"""

    @torch.inference_mode()
    def prefill(self, k: int) -> TopK:
        """Read the prefix; the best k first words of each row."""
        count = self.lm.config.num_hidden_layers
        # Also where the model has sliding windows: the library's layers for them change their
        # course in Python once the window is full, which a graph cannot follow. The mask can.
        self.layers = [StaticLayer(max_cache_len=self.capacity) for _ in range(count)]
        return best(self._pass(inputs_embeds=self.prefix), k)

    @torch.inference_mode()
    def step(self, tokens: NDArray[np.int64], k: int) -> TopK:
        """Append tokens (R,); the best k next words of each row."""
        self.ids[: self.rows, 0] = torch.from_numpy(tokens).to(self.ids.device)
        if self.ids.device.type != "cuda":
            self.logits = self._pass(input_ids=self.ids)
        else:
            if self.graph is None:
                self._capture()
            assert self.graph is not None
            self.graph.replay()
        return best(self.logits[: self.rows], k)

    @torch.inference_mode()
    def select(self, rows: NDArray[np.int64]) -> None:
        """Keep these rows of the cache; more rows than slots need a new graph."""
        self.rows = len(rows)
        if self.rows > self.slots:
            self.slots, self.graph = self.rows, None
            self.ids = self.ids.new_zeros(self.slots, 1)
            index = torch.from_numpy(rows).to(self.ids.device)
            for layer in self.layers:
                layer.keys, layer.values = layer.keys[index], layer.values[index]
            return
        index = torch.from_numpy(np.resize(rows, self.slots)).to(self.ids.device)
        for layer in self.layers:
            # In place, for the graph knows these addresses.
            layer.keys.copy_(layer.keys[index])
            layer.values.copy_(layer.values[index])

    def _pass(self, **inputs: Tensor) -> Tensor:
        """One forward pass of all slots -> logits (slots, V) of the last position."""
        cache = Cache(layers=self.layers)
        out = self.lm(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1]

    def _capture(self) -> None:
        """Record one step. Warm-ups advance the cache, so that its length is put back after."""
        lengths = [layer.cumulative_length.clone() for layer in self.layers]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                self._pass(input_ids=self.ids)
                self._rewind(lengths)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits = self._pass(input_ids=self.ids)
        self._rewind(lengths)

    def _rewind(self, lengths: list[Tensor]) -> None:
        for layer, length in zip(self.layers, lengths, strict=True):
            layer.cumulative_length.copy_(length)
