"""vlv: train an image captioner from interchangeable pretrained parts (VLV, arXiv 2507.07104).

import vlv_core as vlv
model = vlv.load("mini")
print(model.caption(["picture.png"])[0].text)
"""

from typing import TYPE_CHECKING, Any

from vlv_core.errors import VlvError
from vlv_core.hookspecs import hookimpl, hookspec
from vlv_core.protocols import Caption, Conditioning, Encoded, TopK
from vlv_core.specs import (
    BenchCaseSpec,
    BottleneckSpec,
    ConnectorSpec,
    DatasetSpec,
    DecoderSpec,
    EncoderSpec,
    EvaluatorSpec,
    ExporterSpec,
    HeadSpec,
    ImporterSpec,
    ModelSpec,
    Near,
    OpenerSpec,
    OpenOptions,
    PixelSpec,
    Source,
    View,
)

if TYPE_CHECKING:
    from vlv_core.loading import load

__all__ = [
    "BenchCaseSpec",
    "BottleneckSpec",
    "Caption",
    "Conditioning",
    "ConnectorSpec",
    "DatasetSpec",
    "DecoderSpec",
    "Encoded",
    "EncoderSpec",
    "EvaluatorSpec",
    "ExporterSpec",
    "HeadSpec",
    "ImporterSpec",
    "ModelSpec",
    "Near",
    "OpenOptions",
    "OpenerSpec",
    "PixelSpec",
    "Source",
    "TopK",
    "View",
    "VlvError",
    "hookimpl",
    "hookspec",
    "load",
]


def __getattr__(name: str) -> Any:
    """`load`, imported at first use, so that declaring a plugin stays cheap."""
    if name == "load":
        from vlv_core.loading import load

        return load
    raise AttributeError(f"module 'vlv_core' has no attribute {name!r}")
