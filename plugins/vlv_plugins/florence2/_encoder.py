"""The `florence2` encoder: DaViT and its projection into the language model's space.

Method: Xiao et al., Florence-2, arXiv 2311.06242; modules and parameter names are transformers'.
Shape legend: B batch, S edge, N tokens, h w feature map, De token width.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Florence2Config, Florence2VisionConfig
from transformers.models.florence2.modeling_florence2 import (
    Florence2MultiModalProjector,
    Florence2PreTrainedModel,
    Florence2VisionBackbone,
)

from vlv_core import Near, PixelSpec
from vlv_core.errors import ConfigError
from vlv_plugins._florence_names import VISION, to_native
from vlv_plugins._hub import fill, read_weights
from vlv_plugins.florence2._architecture import vision_config
from vlv_plugins.florence2.config import PIXELS, EncoderConfig


class Florence2Encoder(nn.Module):
    """view uint8 (B, S, S, 3) -> tokens (B, 1 + h w, De): the mean token, then one a place.

    Learned 2-D positions and the (constant) temporal embedding of a single frame are added before
    the projection and its norm.
    """

    def __init__(
        self, config: Florence2Config, *, pixels: PixelSpec, gradient_checkpointing: bool
    ) -> None:
        super().__init__()
        edge = feature_edge(config, pixels.size)
        self.pixels = pixels
        self.num_tokens = 1 + edge * edge
        self.dim: int = vision_of(config).projection_dim
        self.gradient_checkpointing = gradient_checkpointing
        model = _Vision(config)
        self.vision_tower: Any = model.vision_tower
        self.multi_modal_projector = model.multi_modal_projector
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(pixels.mean), persistent=False)
        self.register_buffer("std", torch.tensor(pixels.std), persistent=False)

    def forward(self, view: Tensor) -> Tensor:
        features = self._tower(self.normalise(view))
        tokens: Tensor = self.multi_modal_projector(features)
        return tokens

    def normalise(self, view: Tensor) -> Tensor:
        """view uint8 (B, S, S, 3) -> pixels float (B, 3, S, S), as the original's processor."""
        pixels = (view.to(self.mean.dtype) / 255 - self.mean) / self.std
        return pixels.permute(0, 3, 1, 2)

    def load_pretrained(self, folder: Path) -> set[str]:
        """Read the vision half of a Florence-2 in either naming."""
        tensors = to_native(read_weights(folder, "model"))
        mine = {name: tensor for name, tensor in tensors.items() if name.startswith(VISION)}
        return fill(self, mine, where="florence2 encoder")

    def _tower(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, S, S) -> features (B, D, h, w)."""
        if not (self.gradient_checkpointing and self.training):
            features: Tensor = self.vision_tower(pixels).last_hidden_state
            return features
        # The library's blocks do not checkpoint themselves, so its loop is repeated here.
        x = pixels.to(self.vision_tower.convs[0].conv.weight.dtype)
        for conv, blocks in zip(self.vision_tower.convs, self.vision_tower.blocks, strict=True):
            x = conv(x)
            for block in blocks:
                x = checkpoint(block, x, use_reentrant=False)
        return x


class _Vision(Florence2PreTrainedModel):
    """The vision half alone, so that the library initialises it as it does the whole model."""

    def __init__(self, config: Florence2Config) -> None:
        super().__init__(config)
        self.vision_tower = Florence2VisionBackbone(vision_of(config))
        self.multi_modal_projector = Florence2MultiModalProjector(config)
        self.post_init()


def feature_edge(config: Florence2Config, size: int) -> int:
    """Edge of the last feature map, of a picture of `size` pixels: 24 of 768.

    Raises ConfigError for a picture that is too small, or needs more positions than there are.
    """
    vision, edge = vision_of(config), size
    for kernel, stride, padding in zip(
        vision.patch_size, vision.patch_stride, vision.patch_padding, strict=True
    ):
        edge = (edge + 2 * padding - kernel) // stride + 1
    most = vision.max_position_embeddings
    if not 1 <= edge <= most:
        raise ConfigError(
            f"pixels.size {size} gives {edge} x {edge} tokens, but this model has positions for "
            f"1 to {most} a side",
            hint="set pixels.size to what the model's preprocessor_config.json says",
        )
    return edge


def vision_of(config: Florence2Config) -> Florence2VisionConfig:
    """The vision tower's part, which the class leaves open by type."""
    vision = config.vision_config
    assert isinstance(vision, Florence2VisionConfig)
    return vision


def build(config: EncoderConfig, near: Near) -> Florence2Encoder:
    """Architecture only."""
    del near
    return Florence2Encoder(
        vision_config(config.architecture),
        pixels=config.pixels or PIXELS,
        gradient_checkpointing=config.gradient_checkpointing,
    )
