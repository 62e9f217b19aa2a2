"""Adapters: they alone learn, the base keeps every bit, and names fit the published weights."""

from pathlib import Path

import pytest
import torch

from tests.plugins.causal_lm.test_causal_lm_files import published
from tests.plugins.causal_lm.tiny import head, prefix
from vlv_core.errors import ConfigError

CAPTIONS = ["a red circle.", "a blue star"]
PROJECTIONS = 7
"""linear layers of a Llama block: four of attention, three of the MLP"""


def test_a_new_adapter_changes_no_answer() -> None:
    plain, adapted = head("llama"), head("llama", lora_rank=4)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora" not in name:
                parameter.copy_(plain.get_parameter(name.replace(".base_layer.", ".")))
        ids, mask = plain.tokenize(CAPTIONS)
        losses = [part.loss(prefix(2), ids, mask) for part in (plain, adapted)]
    assert torch.equal(*losses)


def test_adapters_alone_learn() -> None:
    part = head("llama", lora_rank=4)
    names = part.learnable()
    assert len(names) == 2 * 2 * PROJECTIONS
    assert all(".lora_" in name and "lm_head" not in name for name in names)
    part.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in part.state_dict().items()}
    chosen = [part.get_parameter(name).requires_grad_() for name in sorted(names)]
    optimiser = torch.optim.AdamW(chosen, lr=1e-2)
    ids, mask = part.tokenize(CAPTIONS)
    losses = []
    for _ in range(20):
        loss = part.loss(prefix(2), ids, mask).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    changed = {n for n, tensor in part.state_dict().items() if not torch.equal(tensor, before[n])}
    assert changed == names


def test_without_adapters_everything_learns() -> None:
    part = head("qwen2")
    assert part.learnable() == {name for name, _ in part.named_parameters()}
    ids, mask = part.tokenize(CAPTIONS)
    part.loss(prefix(2), ids, mask).sum().backward()
    assert all(parameter.grad is not None for parameter in part.parameters())


def test_published_weights_go_below_the_adapters(tmp_path: Path) -> None:
    saved = published(tmp_path, "llama")
    part = head("llama", lora_rank=4, lora_targets=["q_proj", "v_proj"])
    names = part.learnable()
    assert len(names) == 2 * 2 * 2
    adapters = {name: part.get_parameter(name).detach().clone() for name in names}
    assert part.load_pretrained(tmp_path) == set(part.state_dict()) - names
    state = {n.replace(".base_layer.", "."): t for n, t in part.state_dict().items()}
    for name, tensor in saved.state_dict().items():
        assert torch.equal(state[name], tensor), name
    for name, tensor in adapters.items():
        assert torch.equal(part.get_parameter(name), tensor), name


def test_unknown_targets_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no layer 'query'; it has .*q_proj"):
        head("llama", lora_rank=4, lora_targets=["query"])


def test_folded_adapters_answer_as_before() -> None:
    part = head("llama", lora_rank=4)
    with torch.no_grad():
        for name in part.learnable():
            part.get_parameter(name).normal_(std=0.1, generator=torch.Generator().manual_seed(3))
        ids, mask = part.tokenize(CAPTIONS)
        adapted, plain = part.loss(prefix(2), ids, mask), head("llama").loss(prefix(2), ids, mask)
        part.fold()
        folded = part.loss(prefix(2), ids, mask)
    assert not [name for name in part.state_dict() if "lora" in name]
    torch.testing.assert_close(folded, adapted, rtol=1e-4, atol=1e-4)
    assert (folded - plain).abs().min() > 1e-2
    assert part.lm.lm_head.weight is part.lm.model.embed_tokens.weight


def test_folding_without_adapters_changes_nothing() -> None:
    part = head("qwen2")
    before = {name: id(parameter) for name, parameter in part.named_parameters()}
    part.fold()
    assert {name: id(parameter) for name, parameter in part.named_parameters()} == before
