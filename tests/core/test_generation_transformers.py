"""The decode loop against transformers' own `generate`, token for token."""

from collections.abc import Collection
from functools import cache
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, StoppingCriteria
from transformers.generation import (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from vlv_core.generation import Generated, GenerationOptions, generate
from vlv_core.generation.loop import nucleus
from vlv_core.protocols import TopK

EarlyStopping = bool | Literal["never"]

# Threads of a model this small only wait for each other: 2 took ten times as long as 1.
torch.set_num_threads(1)

VOCABULARY, WIDTH, PREFIX, NEW = 24, 32, 3, 14
SAME_REASON = [("eos", "eos"), ("length", "length"), ("repetition", "length")]


@cache
def tiny_model(eos_bias: float = 0.0, eos: tuple[int, ...] = (1,)) -> LlamaForCausalLM:
    """A random language model; `eos_bias` makes sentences end sooner, at different steps."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.35,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config).eval()
    weight = model.lm_head.weight
    model.lm_head = torch.nn.Linear(WIDTH, VOCABULARY)
    with torch.no_grad():
        model.lm_head.weight.copy_(weight)
        model.lm_head.bias.zero_()
        model.lm_head.bias[list(eos)] = eos_bias
    return model


def prefixes(batch: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, PREFIX, WIDTH, generator=torch.Generator().manual_seed(seed))


class RecomputeStepper:
    """No cache: the whole sequence anew each step, so that nothing is shared with transformers."""

    capacity = 64

    def __init__(self, model: LlamaForCausalLM, prefix: Tensor) -> None:
        self.model, self.embedded = model, prefix

    @torch.inference_mode()
    def prefill(self, k: int) -> TopK:
        logits = self.model(inputs_embeds=self.embedded, use_cache=False).logits[:, -1]
        values, ids = logits.log_softmax(dim=-1).topk(min(k, VOCABULARY))
        return TopK(values.numpy(), ids.numpy())

    @torch.inference_mode()
    def step(self, tokens: NDArray[np.int64], k: int) -> TopK:
        words = self.model.get_input_embeddings()(torch.from_numpy(tokens))[:, None]
        self.embedded = torch.cat([self.embedded, words], dim=1)
        return self.prefill(k)

    def select(self, rows: NDArray[np.int64]) -> None:
        self.embedded = self.embedded[torch.from_numpy(rows)]


def ours(
    model: LlamaForCausalLM, prefix: Tensor, *, eos: Collection[int], **options: Any
) -> list[Generated]:
    made = GenerationOptions(max_new_tokens=NEW, **options)
    return generate(RecomputeStepper(model, prefix), eos=eos, options=made)


def theirs(model: LlamaForCausalLM, prefix: Tensor, *, eos: Collection[int], **options: Any) -> Any:
    with torch.inference_mode():
        return model.generate(
            inputs_embeds=prefix,
            attention_mask=torch.ones(prefix.shape[:2], dtype=torch.int64),
            max_new_tokens=NEW,
            do_sample=False,
            eos_token_id=list(eos),
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
            **options,
        )


def cut(row: Tensor, eos: Collection[int]) -> tuple[tuple[int, ...], str]:
    """Tokens before the end of text, and whether it was reached."""
    tokens = row.tolist()
    ends = [i for i, token in enumerate(tokens) if token in eos]
    return (tuple(tokens[: ends[0]]), "eos") if ends else (tuple(tokens), "length")


def assert_equal(mine: list[Generated], reference: Any, eos: Collection[int]) -> None:
    for result, row in zip(mine, reference.sequences, strict=True):
        tokens, reason = cut(row, eos)
        assert result.tokens == tokens
        # What transformers calls too long may have been a loop.
        assert (result.finish_reason, reason) in SAME_REASON


@pytest.mark.parametrize("eos_bias", [0.0, 2.0])
def test_greedy_is_transformers(eos_bias: float) -> None:
    model, prefix, eos = tiny_model(eos_bias), prefixes(12), (1,)
    mine = ours(model, prefix, eos=eos, stop_on_repetition=False)
    reference = theirs(model, prefix, eos=eos)
    assert_equal(mine, reference, eos)
    scores = torch.stack(reference.scores, dim=1).log_softmax(dim=-1)
    for result, row in zip(mine, scores, strict=True):
        words = [*result.tokens, 1] if result.finish_reason == "eos" else list(result.tokens)
        expected = row[torch.arange(len(words)), words].sum().item()
        assert result.logprob == pytest.approx(expected, rel=1e-4, abs=1e-4)


def compare_beams(
    model: LlamaForCausalLM,
    prefix: Tensor,
    *,
    eos: Collection[int],
    beams: int,
    length_penalty: float,
    early_stopping: EarlyStopping,
) -> list[Generated]:
    mine = ours(
        model,
        prefix,
        eos=eos,
        beams=beams,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
        stop_on_repetition=False,
    )
    reference = theirs(
        model,
        prefix,
        eos=eos,
        num_beams=beams,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
    )
    assert_equal(mine, reference, eos)
    for result, score in zip(mine, reference.sequences_scores.tolist(), strict=True):
        length = len(result.tokens) + (result.finish_reason == "eos")
        assert result.logprob / length**length_penalty == pytest.approx(score, rel=1e-4)
    return mine


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 0.6, 1.0, 2.0])
def test_beam_search_is_transformers(early_stopping: EarlyStopping, length_penalty: float) -> None:
    results = [
        result
        for eos_bias, batch in ((1.0, 1), (3.0, 5))
        for result in compare_beams(
            tiny_model(eos_bias),
            prefixes(batch),
            eos=(1,),
            beams=4,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
        )
    ]
    assert len({len(result.tokens) for result in results}) > 1


@pytest.mark.parametrize("beams", [2, 3, 7])
@pytest.mark.parametrize("early_stopping", [False, True, "never"])
def test_beam_search_is_transformers_with_two_ends_of_text(
    beams: int, early_stopping: EarlyStopping
) -> None:
    eos = (1, 2)
    compare_beams(
        tiny_model(2.0, eos),
        prefixes(3, seed=1),
        eos=eos,
        beams=beams,
        length_penalty=1.0,
        early_stopping=early_stopping,
    )


def test_beam_search_is_transformers_without_an_end_of_text() -> None:
    model, prefix = tiny_model(), prefixes(3)
    mine = ours(model, prefix, eos=(), beams=4, stop_on_repetition=False)
    with torch.inference_mode():
        reference = model.generate(
            inputs_embeds=prefix, max_new_tokens=NEW, num_beams=4, do_sample=False, pad_token_id=0
        )
    assert [result.tokens for result in mine] == [tuple(row) for row in reference.tolist()]


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
def test_one_row_is_searched_as_in_a_batch(early_stopping: EarlyStopping) -> None:
    model, prefix = tiny_model(2.0), prefixes(6)
    options: dict[str, Any] = {"eos": (1,), "beams": 4, "early_stopping": early_stopping}
    for row, result in enumerate(ours(model, prefix, **options)):
        [alone] = ours(model, prefix[row : row + 1], **options)
        assert alone.tokens == result.tokens
        assert alone.logprob == pytest.approx(result.logprob, rel=1e-4)


class Repeats(StoppingCriteria):
    """Ends a sentence at a token said twice, or two tokens said twice."""

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        tails = [row[-4:] for row in input_ids.tolist()]
        return torch.tensor([t[-1:] == t[-2:-1] or t[:2] == t[2:] for t in tails])


@pytest.mark.parametrize("beams", [1, 4])
def test_stopping_at_a_loop_is_a_stopping_criterion_of_transformers(beams: int) -> None:
    model, prefix = tiny_model(), prefixes(8)
    reasons = set()
    for row in range(len(prefix)):
        one = prefix[row : row + 1]
        [mine] = ours(model, one, eos=(1,), beams=beams, repetition_window=2, repetition_count=2)
        reference = theirs(model, one, eos=(1,), num_beams=beams, stopping_criteria=[Repeats()])
        assert mine.tokens == cut(reference.sequences[0], (1,))[0]
        reasons.add(mine.finish_reason)
    assert "repetition" in reasons and len(reasons) > 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("top_k", [5, 256])
def test_sampling_probabilities_are_those_of_transformers_warpers(
    temperature: float, top_p: float, top_k: int
) -> None:
    logits = 3 * torch.randn(50, 400, generator=torch.Generator().manual_seed(3))
    warped = TemperatureLogitsWarper(temperature)(None, logits)
    warped = TopPLogitsWarper(top_p)(None, TopKLogitsWarper(top_k)(None, warped))
    reference = warped.softmax(dim=-1)
    log_probs, ids = logits.log_softmax(dim=-1).topk(top_k)
    mine = nucleus(log_probs.double().numpy() / temperature, top_p=top_p)
    expected = reference.gather(1, ids).numpy()
    np.testing.assert_array_equal(mine > 0, expected > 0)
    np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-7)
    assert reference.gather(1, ids).sum() == pytest.approx(50, abs=1e-3)
