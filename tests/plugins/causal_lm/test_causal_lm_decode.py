"""Words against the library's `generate`, for every family and both steppers."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.plugins.causal_lm.tiny import OWN, head, prefix
from vlv_core.errors import UsageError
from vlv_core.generation import GenerationOptions, generate
from vlv_plugins.causal_lm._graph import GraphStepper
from vlv_plugins.causal_lm._head import CausalLm
from vlv_plugins.causal_lm._stepper import PreallocatedLayer

NEW = 16
BEAMS = {"beams": 4, "early_stopping": True}
THEIR_BEAMS = {"num_beams": 4, "early_stopping": True}


def ours(part: CausalLm, stepper: Any, **options: Any) -> list[list[int]]:
    chosen = GenerationOptions(max_new_tokens=NEW, stop_on_repetition=False, **options)
    return [list(row.tokens) for row in generate(stepper, eos=part.eos, options=chosen)]


def theirs(part: CausalLm, before: Tensor, **options: Any) -> list[list[int]]:
    with torch.no_grad():
        rows = part.lm.generate(
            inputs_embeds=before,
            max_new_tokens=NEW,
            do_sample=False,
            eos_token_id=list(part.eos),
            pad_token_id=part.eos[0],
            **options,
        )
    return [_until(row, part.eos) for row in rows.tolist()]


def _until(row: list[int], eos: tuple[int, ...]) -> list[int]:
    ends = [at for at, token in enumerate(row) if token in eos]
    return row[: ends[0]] if ends else row


def likely_end(part: CausalLm, before: Tensor) -> CausalLm:
    """Make an early word of the first row an end of text too, so that rows leave at odd times."""
    part.words.eos = (*part.eos, theirs(part, before)[0][3])
    return part


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize(("options", "their_options"), [({}, {}), (BEAMS, THEIR_BEAMS)])
def test_words_equal_generate(
    kind: str, options: dict[str, Any], their_options: dict[str, Any]
) -> None:
    before = prefix(3)
    part = likely_end(head(kind), before)
    found = ours(part, part.start(before, 5 + NEW), **options)
    assert found == theirs(part, before, **their_options)
    assert len({len(row) for row in found}) > 1 or options, "no row leaves early"


@pytest.mark.parametrize("kind", ["qwen2", "gemma2", "gemma3_text"])
@pytest.mark.parametrize(("options", "their_options"), [({}, {}), (BEAMS, THEIR_BEAMS)])
def test_the_graphs_pass_says_the_same_words(
    kind: str, options: dict[str, Any], their_options: dict[str, Any]
) -> None:
    before = prefix(3)
    part = likely_end(head(kind), before)
    found = ours(part, GraphStepper(part.lm, before, 5 + NEW), **options)
    assert found == theirs(part, before, **their_options)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["qwen2", "gemma3_text"])
@pytest.mark.parametrize(("options", "their_options"), [({}, {}), (BEAMS, THEIR_BEAMS)])
def test_a_captured_graph_says_the_same_words(
    kind: str, options: dict[str, Any], their_options: dict[str, Any]
) -> None:
    before = prefix(3).cuda()
    part = likely_end(head(kind).cuda(), before)
    stepper = part.start(before, 5 + NEW)
    assert isinstance(stepper, GraphStepper)
    assert ours(part, stepper, **options) == theirs(part, before, **their_options)
    assert stepper.graph is not None


@pytest.mark.parametrize("wrapped", [False, True])
def test_stepping_equals_a_fresh_prefill(wrapped: bool) -> None:
    part = head("gemma2", lora_rank=2 if wrapped else 0)
    stepper = part.start(prefix(2), 32)
    stepper.prefill(1)
    words = [7, 9, 30, 80, 4, 4, 211, 99, 3, 17]
    for word in words:
        stepped = stepper.step(np.array([word, word]), 5)
    with torch.no_grad():
        embedded = part.lm.get_input_embeddings()(torch.tensor([words] * 2))
        fresh = part.start(torch.cat([prefix(2), embedded], dim=1), 32).prefill(5)
    np.testing.assert_array_equal(stepped.ids, fresh.ids)
    np.testing.assert_allclose(stepped.log_probs, fresh.log_probs, atol=1e-4)


def test_log_probs_are_of_the_whole_vocabulary() -> None:
    part = head("qwen2").to(torch.bfloat16)
    top = part.start(prefix(2), 8).prefill(part.vocab_size)
    assert top.log_probs.dtype == np.float32
    np.testing.assert_allclose(np.exp(top.log_probs).sum(axis=1), 1, atol=1e-5)
    one = part.start(prefix(2), 8).prefill(1)
    np.testing.assert_array_equal(one.log_probs, top.log_probs[:, :1])


def test_the_cache_is_written_in_place_and_read_as_far_as_filled() -> None:
    layer = PreallocatedLayer(8)
    states = torch.arange(2 * 3 * 2 * 4.0).view(2, 3, 2, 4)
    layer.update(states, -states)
    store = layer.stores[0].data_ptr()
    keys, values = layer.update(states[:, :, :1], -states[:, :, :1])
    assert keys.data_ptr() == store
    assert torch.equal(keys, torch.cat([states, states[:, :, :1]], dim=2))
    assert torch.equal(values, -keys)
    expected = keys.clone()
    for rows in ([1, 0], [1, 1], [0, 1, 1], [2]):
        layer.select(torch.tensor(rows))
        expected = expected[rows]
        assert torch.equal(layer.keys, expected)
        assert torch.equal(layer.values, -expected)
        assert layer.get_seq_length() == 3


@pytest.mark.parametrize("capacity", [5, 97])
def test_a_cache_that_does_not_fit_is_refused(capacity: int) -> None:
    with pytest.raises(UsageError, match=r"a capacity of \d+ tokens does not fit: .* at most 96"):
        head("qwen2").start(prefix(1), capacity)
