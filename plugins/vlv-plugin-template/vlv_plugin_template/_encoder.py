"""`patch-mean`: the smallest encoder that keeps the contract."""

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from vlv_core import Near, PixelSpec

if TYPE_CHECKING:
    from vlv_plugin_template import PatchMeanConfig


class PatchMean(nn.Module):
    """view uint8 (B, S, S, 3) -> tokens (B, N, De), N = (S / patch)^2, in reading order."""

    def __init__(self, *, size: int, patch: int, dim: int) -> None:
        super().__init__()
        self.pixels = PixelSpec(size=size)
        self.patch = patch
        self.num_tokens = (size // patch) ** 2
        self.dim = dim
        self.project = nn.Linear(3, dim)

    def forward(self, view: Tensor) -> Tensor:
        x = view.to(self.project.weight.dtype) / 127.5 - 1.0
        means = F.avg_pool2d(x.permute(0, 3, 1, 2), self.patch)
        return self.project(means.flatten(2).transpose(1, 2))


def build(config: "PatchMeanConfig", near: Near) -> PatchMean:
    """Architecture only: weights come from training or from a model folder."""
    return PatchMean(size=near.view_size, patch=config.patch, dim=config.dim)
