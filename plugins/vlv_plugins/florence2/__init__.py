"""Florence-2: its vision tower as an encoder, its language model as the paper's bottleneck."""

from collections.abc import Iterable

from vlv_core import BottleneckSpec, EncoderSpec, hookimpl
from vlv_plugins.florence2.config import BottleneckConfig, EncoderConfig

NAME = "florence2"
REQUIRES = ("torch", "transformers", "tokenizers")


@hookimpl
def vlv_encoders() -> Iterable[EncoderSpec]:
    return [
        EncoderSpec(
            name=NAME,
            summary="Florence-2's vision tower and projection: 577 tokens of a 768 x 768 picture",
            build="vlv_plugins.florence2._encoder:build",
            config=EncoderConfig,
            complete="vlv_plugins.florence2._complete:complete_encoder",
            pretrained="vlv_plugins.florence2.config:pretrained",
            requires=REQUIRES,
            extra="models",
        )
    ]


@hookimpl
def vlv_bottlenecks() -> Iterable[BottleneckSpec]:
    return [
        BottleneckSpec(
            name=NAME,
            summary="Florence-2's multimodal encoder and causal decoder, fed with learned queries",
            build="vlv_plugins.florence2._bottleneck:build",
            config=BottleneckConfig,
            complete="vlv_plugins.florence2._complete:complete_bottleneck",
            pretrained="vlv_plugins.florence2.config:pretrained",
            requires=REQUIRES,
            extra="models",
        )
    ]
