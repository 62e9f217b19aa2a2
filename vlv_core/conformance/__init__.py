"""Pytest classes that a plugin's author subclasses; each checks one role's contract.

    from vlv_core.conformance import EncoderConformance
    from my_package import vlv_encoders

    class TestMine(EncoderConformance):
        spec = vlv_encoders()[0]
        config = {"dim": 32}

Choose options that make the part small. Weights are random, so nothing is read or fetched; a part
that needs more than weights, such as a tokenizer, gets it in `prepare`.
Shapes as in `protocols`: B batch, N tokens, K queries, L context, M prefix, De/Dz/Dc/Dl widths.
"""

from vlv_core.conformance.decoder import ConditionConformance, DiffusionConformance
from vlv_core.conformance.forward import (
    BottleneckConformance,
    ConnectorConformance,
    EncoderConformance,
)
from vlv_core.conformance.head import HeadConformance

__all__ = [
    "BottleneckConformance",
    "ConditionConformance",
    "ConnectorConformance",
    "DiffusionConformance",
    "EncoderConformance",
    "HeadConformance",
]
