"""`vision-transformers`: the vision tower of a published model as transformers has it.

Shape legend: B batch, S pixels of an edge, N tokens, De width.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from vlv_core import Near, PixelSpec
from vlv_core.errors import ConfigError
from vlv_plugins.vision_transformers._families import FAMILIES, Family, vision_table
from vlv_plugins.vision_transformers._weights import load_tower
from vlv_plugins.vision_transformers.config import VisionTransformerConfig

# Random zooms of DINOv3's positions, part of its pretraining: here training and use see the same.
_AUGMENTATIONS = ("pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale")


class VisionTransformer(nn.Module):
    """view uint8 (B, S, S, 3) -> tokens (B, N, De) after the chosen layer.

    The tower ends with that layer, so that its last hidden state is the one asked for.
    """

    def __init__(
        self,
        tower: PreTrainedModel,
        family: Family,
        *,
        pixels: PixelSpec,
        tokens: str,
        whole_depth: int,
    ) -> None:
        super().__init__()
        self.tower: Any = tower
        self.pixels = pixels
        self.dim = int(tower.config.hidden_size)
        self._norm = None if family.norms_tokens else family.norm
        self._whole_depth = whole_depth
        registers = int(getattr(tower.config, "num_register_tokens", 0))
        before = registers + 1 if family.has_cls else 0
        patches = (pixels.size // int(tower.config.patch_size)) ** 2
        spans = {"cls": (0, 1), "patch": (before, before + patches), "all": (0, before + patches)}
        self._first, self._end = spans[tokens]
        self.num_tokens = self._end - self._first

    def forward(self, view: Tensor) -> Tensor:
        x = self.tower(pixel_values=self._normalised(view)).last_hidden_state
        if self._norm:
            x = getattr(self.tower, self._norm)(x)
        return x[:, self._first : self._end]

    def load_pretrained(self, folder: Path) -> set[str]:
        """From a folder that `save_pretrained` wrote, of the whole model or the tower alone."""
        filled = load_tower(self.tower, folder, whole_depth=self._whole_depth)
        return {f"tower.{name}" for name in filled}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves and casts, but DINOv3's frequencies stay float32: rounded, they blur positions."""
        rope: Any = getattr(self.tower, "rope_embeddings", None)
        exact: Any = rope and rope.inv_freq
        super()._apply(fn, recurse)
        if rope and rope.inv_freq.dtype != exact.dtype:
            rope.inv_freq = exact.to(rope.inv_freq.device)
        return self

    def _normalised(self, view: Tensor) -> Tensor:
        """uint8 (B, S, S, 3) -> (B, 3, S, S) in the weights' own type."""
        # A channel at a time with plain numbers: buffers would be rounded where parts are bfloat16.
        channels = [
            (view[..., channel].float() / 255 - mean) / std
            for channel, (mean, std) in enumerate(
                zip(self.pixels.mean, self.pixels.std, strict=True)
            )
        ]
        return torch.stack(channels, dim=1).to(self.tower.dtype)


def build(config: VisionTransformerConfig, near: Near) -> VisionTransformer:
    """Architecture only, random weights as transformers draws them.

    Raises ConfigError for a model, layer, size or kind of token that there is not.
    """
    if not config.architecture:
        raise ConfigError(
            f"encoder.architecture of {config.model!r} is empty",
            hint="training fills it in from the model's config.json",
        )
    kind, table = vision_table(config.architecture)
    family, depth = FAMILIES[kind], _depth(config.layer, table)
    tower = _tower(table, depth)
    size = int(tower.config.image_size)
    pixels = config.pixels or PixelSpec(size=config.image_size or size)
    _check(config, family, pixels, kind=kind, size=size, patch=int(tower.config.patch_size))
    _drop_unused(tower, family, norm=config.norm)
    if config.gradient_checkpointing:
        _checkpoint(tower)
    return VisionTransformer(
        tower, family, pixels=pixels, tokens=config.tokens, whole_depth=_layers(table)
    )


def _tower(table: dict[str, Any], depth: int) -> PreTrainedModel:
    kind = table["model_type"]
    options = {key: value for key, value in table.items() if key != "model_type"}
    options |= {"num_hidden_layers": depth}
    if kind == "siglip_vision_model":
        options["vision_use_head"] = False
    config = AutoConfig.for_model(kind, **options)
    for name in _AUGMENTATIONS:
        if hasattr(config, name):
            setattr(config, name, None)
    extra = {"add_pooling_layer": False} if kind == "vit" else {}
    return AutoModel.from_config(
        config, attn_implementation="sdpa", dtype=torch.float32, trust_remote_code=False, **extra
    )


def _layers(table: dict[str, Any]) -> int:
    kind = table["model_type"]
    options = {key: value for key, value in table.items() if key != "model_type"}
    return int(AutoConfig.for_model(kind, **options).num_hidden_layers)


def _depth(layer: int, table: dict[str, Any]) -> int:
    """How many layers are run."""
    layers = _layers(table)
    depth = layer if layer > 0 else layers + 1 + layer
    if layer == 0 or not 0 < depth <= layers:
        raise ConfigError(
            f"encoder.layer is {layer}, but the model has {layers} layers",
            hint=f"choose 1 to {layers}, or -1 for the last to -{layers} for the first",
        )
    return depth


def _check(
    config: VisionTransformerConfig,
    family: Family,
    pixels: PixelSpec,
    *,
    kind: str,
    size: int,
    patch: int,
) -> None:
    if config.tokens == "cls" and not family.has_cls:
        raise ConfigError(f"{kind} has no class token", hint='set encoder.tokens to "patch"')
    if pixels.size != size and not family.any_size:
        raise ConfigError(
            f"{kind} was made for {size} x {size} pixels, not {pixels.size}",
            hint="leave encoder.image_size away; DINOv2 and DINOv3 take any size",
        )
    if pixels.size < patch:
        raise ConfigError(f"an input of {pixels.size} pixels holds no patch of {patch}")


def _drop_unused(tower: PreTrainedModel, family: Family, *, norm: bool) -> None:
    """Take out what no token depends on, so that all that is left can learn."""
    embeddings: Any = tower.embeddings
    if getattr(embeddings, "mask_token", None) is not None:
        embeddings.mask_token = None
    if not norm:
        setattr(tower, family.norm, nn.Identity())


def _checkpoint(tower: PreTrainedModel) -> None:
    # Renamed in the course of transformers 5; the old name warns in the newer ones.
    new = getattr(tower, "activation_checkpointing_enable", None)
    (new or tower.gradient_checkpointing_enable)({"use_reentrant": False})
