"""A plugin for vlv that offers one encoder. The hook declares; `_encoder` does the work."""

from collections.abc import Iterable
from dataclasses import dataclass

from vlv_core import EncoderSpec, hookimpl


@dataclass(frozen=True)
class PatchMeanConfig:
    """What a recipe may set in `[encoder]`."""

    patch: int = 8
    """edge of a patch, pixels; it divides the view's edge"""
    dim: int = 64
    """De, width of a token"""


@hookimpl
def vlv_encoders() -> Iterable[EncoderSpec]:
    return [
        EncoderSpec(
            name="patch-mean",
            summary="the mean colour of each patch, and a linear map",
            build="vlv_plugin_template._encoder:build",
            config=PatchMeanConfig,
            requires=("torch",),
            extra="train",
        )
    ]
