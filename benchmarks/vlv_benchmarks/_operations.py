"""How many operations a call takes in torch, by torch's own counter."""

from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def operations(call: Callable[..., object], *arguments: object, backward: bool = False) -> float:
    """Multiplications and additions of the matrix products and convolutions, each one operation.

    backward: `call` runs one, whose products count too.
    """
    # the counter does not know the processor's fused attention
    gradients, fused = torch.set_grad_enabled(backward), sdpa_kernel(SDPBackend.MATH)
    with gradients, fused, FlopCounterMode(display=False) as counter:
        call(*arguments)
    return float(counter.get_total_flops())
