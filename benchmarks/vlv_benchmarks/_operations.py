"""How many operations a call takes in torch, by torch's own counter."""

from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def operations(call: Callable[..., object], *arguments: object) -> float:
    """Multiplications and additions of the matrix products and convolutions, each one operation."""
    # the counter does not know the processor's fused attention
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        call(*arguments)
    return float(counter.get_total_flops())
