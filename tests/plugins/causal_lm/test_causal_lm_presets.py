"""The shipped architectures against the published models' sizes."""

import pytest
import torch

from tests.plugins.causal_lm.test_causal_lm_files import never
from vlv_core.specs import Near
from vlv_plugins import _hub
from vlv_plugins.causal_lm._complete import PACKAGE, complete
from vlv_plugins.causal_lm._head import build
from vlv_plugins.causal_lm.config import CausalLmConfig

PARAMETERS = {
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M": 361_821_120,
    "HuggingFaceTB/SmolLM2-360M-Instruct": 361_821_120,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-3B": 3_085_938_688,
    "Qwen/Qwen3-0.6B": 596_049_920,
}
"""as the hub counts them"""
ENDS = {
    "HuggingFaceTB/SmolLM2-135M": (0,),
    "HuggingFaceTB/SmolLM2-135M-Instruct": (2,),
    "Qwen/Qwen2.5-3B": (151643,),
    "Qwen/Qwen3-0.6B": (151645, 151643),
}


def test_all_presets_are_checked() -> None:
    assert _hub.presets(PACKAGE) == sorted(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_sizes_are_the_published_ones(name: str) -> None:
    config = complete(CausalLmConfig(model=name), never)
    with torch.device("meta"):
        part = build(config, Near())
    assert sum(parameter.numel() for parameter in part.parameters()) == PARAMETERS[name]
    assert config.eos == ENDS.get(name, config.eos)
    assert config.eos
