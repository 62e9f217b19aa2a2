"""The encoder keeps vlv's contract, and computes what its name says."""

import torch
from vlv_plugin_template import PatchMeanConfig, vlv_encoders
from vlv_plugin_template._encoder import build

from vlv_core import Near
from vlv_core.conformance import EncoderConformance


class TestPatchMean(EncoderConformance):
    spec = next(iter(vlv_encoders()))
    config = {"patch": 16, "dim": 8}


def test_tokens_are_maps_of_mean_colours() -> None:
    encoder = build(PatchMeanConfig(patch=2, dim=3), Near(view_size=4))
    encoder.project.weight.data = torch.eye(3)
    encoder.project.bias.data.zero_()
    view = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    view[0, :2, 2:] = 255
    tokens = encoder(view)[0]
    assert tokens[1].tolist() == [1.0] * 3, "the second patch is the upper right one"
    assert tokens[[0, 2, 3]].eq(-1).all()
