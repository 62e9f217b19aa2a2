"""Both halves keep the contract of their roles."""

from tests.plugins.florence2.tiny_florence import ARCHITECTURE, PROMPT_IDS, SIZE, TOKENS
from vlv_core.conformance import BottleneckConformance, EncoderConformance
from vlv_core.specs import Near
from vlv_plugins import florence2

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class TestEncoder(EncoderConformance):
    spec = next(iter(florence2.vlv_encoders()))
    config = {
        "architecture": ARCHITECTURE,
        "pixels": {"size": SIZE, "mean": MEAN, "std": STD},
    }


class TestBottleneck(BottleneckConformance):
    spec = next(iter(florence2.vlv_bottlenecks()))
    config = {"architecture": ARCHITECTURE, "num_queries": 7, "prompt_ids": list(PROMPT_IDS)}
    near = Near(view_size=64, num_tokens=TOKENS, token_dim=24, embedding_dim=16, max_queries=8)


class TestAdaptedBottleneck(BottleneckConformance):
    """Tokens of another encoder, through a linear layer."""

    spec = TestBottleneck.spec
    config = {**TestBottleneck.config, "adapt": True, "num_queries": 3, "hidden": 20}
    near = Near(view_size=64, num_tokens=9, token_dim=10, embedding_dim=16, max_queries=8)
