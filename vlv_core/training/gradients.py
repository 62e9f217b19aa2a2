"""Gradients of a step: summed over processes, divided by the weight, clipped."""

from collections.abc import Iterator, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn

BUCKET = 1 << 24
"""elements all-reduced at once: 64 MiB of float32"""


def gather(parameters: Sequence[nn.Parameter], *, accelerator: Accelerator) -> list[Tensor]:
    """Each parameter's gradient, summed over processes; zeros where this batch made none."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if accelerator.num_processes > 1:
        for bucket in _buckets(gradients):
            flat = accelerator.reduce(torch.cat([g.flatten() for g in bucket]), reduction="sum")
            pieces = flat.split([g.numel() for g in bucket])
            views = [piece.view_as(g) for piece, g in zip(pieces, bucket, strict=True)]
            torch._foreach_copy_(bucket, views)
    return gradients


def scale_and_clip(gradients: list[Tensor], *, weight: Tensor, clip: float) -> Tensor:
    """Divide by `weight` and limit the global norm to `clip` (0: no limit), in place.

    Answers the norm before clipping. Not finite if any gradient is not.
    """
    divisor = weight.clamp(min=1e-12)
    norm = torch.nn.utils.get_total_norm(gradients) / divisor
    factor = 1 / divisor
    if clip:
        factor = factor * (clip / (norm + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(gradients, factor.to(gradients[0].dtype))
    return norm


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and size + gradient.numel() > BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.numel()
    if bucket:
        yield bucket
