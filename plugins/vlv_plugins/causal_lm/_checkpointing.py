"""Gradient checkpointing (Chen et al., arXiv 1604.06174) for as long as a loss is computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer


@contextmanager
def checkpointed(lm: nn.Module, *, on: bool) -> Iterator[None]:
    """Layers are computed again in the backward pass, in eval mode too.

    The library's switch acts in train mode alone, but a frozen head needs the memory as much, for
    the gradient flows through it; and left on in train mode it would take a stepper's cache away.
    Only the layers' own flags are set: the dropout inside them sees its own.
    """
    layers: list[Any] = [m for m in lm.modules() if isinstance(m, GradientCheckpointingLayer)]
    on = on and torch.is_grad_enabled()
    before = [layer.training for layer in layers]
    for layer in layers if on else ():
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
        layer.gradient_checkpointing = layer.training = True
    try:
        yield
    finally:
        for layer, training in zip(layers, before, strict=True):
            layer.gradient_checkpointing, layer.training = False, training
