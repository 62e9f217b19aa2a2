"""Options of the vision transformers."""

from dataclasses import dataclass, field
from typing import Any, Literal

from vlv_core import PixelSpec, Source
from vlv_core.errors import ConfigError


@dataclass(frozen=True)
class VisionTransformerConfig:
    """`vision-transformers`: the vision tower of a published model."""

    model: str
    """repository such as "google/siglip2-base-patch16-256", or a local folder"""
    architecture: dict[str, Any] = field(default_factory=dict)
    """the model's own config.json; empty in a recipe"""
    layer: int = -1
    """whose tokens are taken: k for those after k layers, -1 after the last, -2 after the one
    before; later layers are neither built nor run"""
    tokens: Literal["patch", "cls", "all"] = "patch"
    """all: in the model's own order, class token and registers before the patches"""
    norm: bool = True
    """whether the final layer norm is applied, to the tokens of whichever layer"""
    gradient_checkpointing: bool = False
    """compute each layer again in the backward pass instead of keeping what it made"""
    image_size: int = 0
    """edge of the square input, pixels; 0 takes the processor's; others for DINOv2 and DINOv3"""
    pixels: PixelSpec | None = None
    """None takes the model's preprocessor_config.json"""

    def __post_init__(self) -> None:
        if self.pixels and self.image_size not in (0, self.pixels.size):
            raise ConfigError(
                f"image_size is {self.image_size}, but pixels.size is {self.pixels.size}",
                hint="leave image_size away where pixels is given",
            )


def pretrained(config: VisionTransformerConfig) -> Source:
    """The files that the encoder's weights are read from."""
    return Source(
        location=config.model,
        files=("model.safetensors", "model.safetensors.index.json", "model-*.safetensors"),
    )
