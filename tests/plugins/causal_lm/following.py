"""A head's graph against its own eager stepper, teacher-forced through prefill and single steps."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlv_core import TopK
from vlv_core.parts import ExportPart

Graph = Callable[..., Sequence[Tensor]]
"""prefix, tokens, position, *past -> logits, *present"""


@torch.no_grad()
def worst_error(
    graph: Graph, part: Any, *, cache: ExportPart, before: Tensor, steps: int = 11
) -> float:
    """The largest relative L2 error of the log-probabilities over all steps.

    The graph starts from a cache full of noise: none of it may be seen.
    """
    rows, length, _ = before.shape
    words = np.random.default_rng(5).integers(0, part.vocab_size, (steps, rows))
    capacity = length + steps
    sizes = {"batch": rows, "capacity": capacity, "prefix": length, "length": 0}
    noise = cache.example(sizes, seed=3)
    past = [torch.from_numpy(noise[given]) for given, _ in cache.state]
    stepper = part.start(before, capacity)
    nothing = torch.zeros(rows, 0, dtype=torch.int64)
    logits, *past = graph(before, nothing, torch.zeros(rows, dtype=torch.int64), *past)
    errors = [_error(logits, stepper.prefill(part.vocab_size))]
    for index, tokens in enumerate(words):
        position = torch.full((rows,), length + index)
        logits, *past = graph(before[:, :0], torch.from_numpy(tokens)[:, None], position, *past)
        errors.append(_error(logits, stepper.step(tokens, part.vocab_size)))
    return max(errors)


def _error(logits: Tensor, top: TopK) -> float:
    due = torch.zeros_like(logits)
    due.scatter_(1, torch.from_numpy(top.ids), torch.from_numpy(top.log_probs))
    return float((logits.log_softmax(dim=-1) - due).norm() / due.norm())
