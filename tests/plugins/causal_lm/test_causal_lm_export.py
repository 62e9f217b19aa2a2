"""The export part says what the eager head says, for every family; the library stays as it is."""

import sys
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tests.plugins.causal_lm.following import worst_error
from tests.plugins.causal_lm.tiny import OWN, architecture, head, prefix
from vlv_core.errors import UsageError
from vlv_core.ops import rms_norm
from vlv_plugins.causal_lm._export import ATTENTION, RmsNorm
from vlv_plugins.causal_lm._head import CausalLm

FACTORS = [1.0, 1.5, 2.0, 2.5]
ROTATIONS: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
}


def with_rotation(kind: str, rotation: dict[str, Any], **changed: Any) -> CausalLm:
    parameters = {"rope_theta": 10000.0, **rotation}
    return head(kind, architecture=architecture(kind, rope_parameters=parameters, **changed))


def teach(part: CausalLm) -> CausalLm:
    """Adapters that change every layer."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name in part.learnable():
            weight = part.get_parameter(name)
            weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))
    return part


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
@pytest.mark.parametrize("kind", OWN)
def test_the_parts_module_says_what_the_stepper_says(kind: str, rows: int) -> None:
    part = head(kind)
    made = part.export_part()
    assert worst_error(made.module, part, cache=made, before=prefix(rows)) < 1e-6


@pytest.mark.parametrize("kind", OWN)
def test_adapters_are_merged(kind: str) -> None:
    part = teach(head(kind, lora_rank=2))
    untaught = head(kind, lora_rank=2).export_part()
    made = part.export_part()
    assert not [name for name, _ in made.module.named_parameters() if "lora" in name]
    assert worst_error(made.module, part, cache=made, before=prefix(2)) < 1e-5
    assert worst_error(untaught.module, part, cache=made, before=prefix(2)) > 1e-2


def test_an_adapter_of_the_output_layer_leaves_the_input_table() -> None:
    part = teach(head("llama", lora_rank=2, lora_targets=["lm_head"]))
    made = part.export_part()
    assert worst_error(made.module, part, cache=made, before=prefix(2)) < 1e-5
    assert made.module.lm.get_input_embeddings().weight is part.lm.get_input_embeddings().weight


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_scaled_rotations(rotation: str) -> None:
    part = with_rotation("llama", ROTATIONS[rotation])
    made = part.export_part()
    assert worst_error(made.module, part, cache=made, before=prefix(2)) < 1e-6
    unscaled = with_rotation("llama", {"rope_type": "default"}).export_part()
    plain = worst_error(unscaled.module, part, cache=made, before=prefix(2))
    # A dynamic rotation changes beyond the trained positions alone, where no head reads.
    assert (plain > 1e-3) is (rotation != "dynamic")


def test_partial_rotation() -> None:
    part = with_rotation("phi3", {"rope_type": "default", "partial_rotary_factor": 0.5})
    made = part.export_part()
    assert made.module.lm.model.rotary_emb.cos.shape == (96, 2)
    assert worst_error(made.module, part, cache=made, before=prefix(2)) < 1e-6


LONG = {"rope_type": "longrope", "short_factor": FACTORS, "long_factor": [9.0] * 4}


def test_longrope_within_its_training_length() -> None:
    part = with_rotation("phi3", LONG, original_max_position_embeddings=96)
    made = part.export_part()
    assert worst_error(made.module, part, cache=made, before=prefix(2)) < 1e-6


def test_longrope_beyond_it_is_refused() -> None:
    part = with_rotation("phi3", LONG, original_max_position_embeddings=64)
    with pytest.raises(UsageError, match=r"max_length is 96, but beyond 64 tokens .*positions"):
        part.export_part()


@pytest.mark.parametrize("kind", ["qwen2", "gemma3_text"])
def test_the_head_and_the_library_stay_as_they_are(kind: str) -> None:
    part = teach(head(kind, lora_rank=2)).train()
    family = sys.modules[type(part.lm.model).__module__]
    rotate, before = family.apply_rotary_pos_emb, dict(part.state_dict())
    ids, mask = part.tokenize(["a red circle"])
    loss = part.loss(prefix(1), ids, mask)
    made = part.export_part()
    example = made.example({"batch": 1, "prefix": 2, "length": 1, "capacity": 4}, seed=0)
    made.module(*(torch.from_numpy(each) for each in example.values()))
    with pytest.raises(RuntimeError, match="must match"):
        made.module(torch.zeros(1, 2, 5), torch.zeros(1, 0, dtype=torch.int64), *[torch.zeros(1)])
    assert family.apply_rotary_pos_emb is rotate
    assert ATTENTION not in ALL_ATTENTION_FUNCTIONS
    assert part.lm.config._attn_implementation == "sdpa"
    assert part.training and part.lm.training
    assert all(torch.equal(before[n], tensor) for n, tensor in part.state_dict().items())
    assert torch.equal(part.loss(prefix(1), ids, mask), loss)
    assert all(part.get_parameter(name).requires_grad for name in part.learnable())


def test_weights_are_shared_with_the_head() -> None:
    part = head("qwen2")
    lm = part.export_part().module.lm
    assert lm.lm_head.weight is lm.get_input_embeddings().weight is part.lm.lm_head.weight
    mine = {id(parameter) for parameter in part.parameters()}
    new = [name for name, parameter in lm.named_parameters() if id(parameter) not in mine]
    assert all("norm" in name for name in new), new


@pytest.mark.parametrize("kind", OWN)
def test_all_norms_become_ours(kind: str) -> None:
    lm = head(kind).export_part().module.lm
    norms = [m for name, m in lm.named_modules() if name.rpartition(".")[2].endswith("norm")]
    assert len(norms) >= 5
    assert all(isinstance(norm, RmsNorm) for norm in norms)


def test_a_norm_that_is_another_stays() -> None:
    from vlv_plugins.causal_lm._export import _plain_norm

    class CentredRMSNorm(torch.nn.Module):
        eps = 1e-5

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return rms_norm(x - x[..., :1], self.weight, eps=self.eps)

    norm = CentredRMSNorm()
    assert _plain_norm(norm) is norm


def test_the_tokenizers_text_decodes_alike() -> None:
    part = head("qwen2")
    tokenizer = Tokenizer.from_str(part.tokenizer_json())
    for text in ("a red circle", "un œuf, 2 Käse & <|endoftext|> in it", ""):
        ids = part.tokenize([text])[0][0].tolist()
        assert tokenizer.decode(ids, skip_special_tokens=True) == part.decode(ids)
