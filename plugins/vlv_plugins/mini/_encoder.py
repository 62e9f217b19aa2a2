"""`mini-vit`: a plain vision transformer, trained from scratch in stage 1."""

import torch
from torch import Tensor, nn

from vlv_core import Near, PixelSpec
from vlv_core.layers import Block
from vlv_plugins.mini.config import VitConfig


class MiniVit(nn.Module):
    """view uint8 (B, S, S, 3) -> tokens (B, N, De), N = (S / patch)^2."""

    def __init__(self, *, size: int, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.pixels = PixelSpec(size=size)
        self.patch = patch
        self.num_tokens = (size // patch) ** 2
        self.dim = width
        self.embed = nn.Linear(3 * patch * patch, width)
        # As large as the content: what is where must reach the queries from the first step on.
        self.positions = nn.Parameter(torch.randn(self.num_tokens, width) * 0.5)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, view: Tensor) -> Tensor:
        x = view.to(self.embed.weight.dtype) / 127.5 - 1.0
        x = self.embed(patchify(x, self.patch)) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def patchify(x: Tensor, patch: int) -> Tensor:
    """(B, H, W, C) -> (B, N, patch * patch * C), patches in reading order."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // patch, patch, width // patch, patch, channels)
    return x.transpose(2, 3).reshape(batch, -1, patch * patch * channels)


def build(config: VitConfig, near: Near) -> MiniVit:
    """Architecture only."""
    return MiniVit(
        size=near.view_size,
        patch=config.patch,
        width=config.width,
        depth=config.depth,
        heads=config.heads,
    )
