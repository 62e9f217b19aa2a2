"""Beam search against exhaustive search and cases worked out by hand."""

from itertools import product

import numpy as np
import pytest

from tests.core.toy_language import (
    EOS,
    VOCABULARY,
    History,
    HistoryStepper,
    LogProbs,
    constant,
    run,
    sum_of_log_probs,
    words,
)
from vlv_core.generation import GenerationOptions, generate


def test_a_finished_search_leaves_the_batch_at_once() -> None:
    stepper = HistoryStepper(range(20))
    options = GenerationOptions(max_new_tokens=12, beams=3, early_stopping=True)
    together = generate(stepper, eos=(EOS,), options=options)
    lengths = []
    for prefix in range(20):
        alone = HistoryStepper([prefix])
        [result] = generate(alone, eos=(EOS,), options=options)
        assert result._replace(row=prefix) == together[prefix]
        lengths.append(len(alone.calls))
    assert len(set(lengths)) > 3
    assert stepper.calls[0] == 20
    assert stepper.calls[1:] == [3 * sum(n > s for n in lengths) for s in range(1, max(lengths))]


def exhaustive(prefix: int, length: int, penalty: float) -> tuple[float, tuple[int, ...]]:
    """The best sentence of at most `length` words, by trying all."""
    best: tuple[float, tuple[int, ...]] = (-np.inf, ())
    for size in range(1, length + 1):
        for tokens in product(range(VOCABULARY), repeat=size):
            ended = tokens[-1] == EOS or size == length
            if ended and EOS not in tokens[:-1]:
                score = sum_of_log_probs(prefix, tokens) / size**penalty
                best = max(best, (score, tokens))
    return best


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0, 2.0])
def test_a_search_wide_enough_finds_the_best_sentence_of_all(penalty: float) -> None:
    results = run(
        range(4), max_new_tokens=3, beams=64, early_stopping="never", length_penalty=penalty
    )
    for result in results:
        score, tokens = exhaustive(result.row, 3, penalty)
        assert words(result) == tokens
        assert result.logprob / len(tokens) ** penalty == pytest.approx(score, rel=1e-5)


def test_beams_find_what_greedy_misses() -> None:
    greedy = run(range(30), max_new_tokens=6)
    beams = run(range(30), max_new_tokens=6, beams=4, length_penalty=0.0, early_stopping="never")
    gains = [wide.logprob - narrow.logprob for wide, narrow in zip(beams, greedy, strict=True)]
    assert np.mean(gains) > 0.1 and np.mean(np.array(gains) > -1e-6) > 0.9


def test_never_stopping_early_weighs_the_present_length_where_short_is_better() -> None:
    """Scores are sum * length: of (EOS,) -3, of five words -2; at length 60 none could win."""

    def language(history: History) -> LogProbs:
        return constant(t3=0.9, t0=0.05) if len(history) < 5 else constant(t0=1)

    [result] = run(
        [0],
        language=language,
        max_new_tokens=60,
        beams=2,
        early_stopping="never",
        length_penalty=-1.0,
    )
    assert result.tokens == (3, 3, 3, 3)


def test_two_ends_of_text_leave_enough_beams_to_go_on() -> None:
    """The four likeliest second words all end; scores are sum / length^2, so length wins."""
    [result] = run(
        [0],
        language=lambda history: constant(t0=0.35, t1=0.33, t2=0.19, t3=0.13),
        eos=(0, 1),
        max_new_tokens=6,
        beams=2,
        early_stopping="never",
        length_penalty=2.0,
    )
    assert (result.tokens, result.finish_reason) == ((2,) * 5, "eos")


@pytest.mark.parametrize("penalty", [-10.0, 10.0])
def test_no_penalty_lets_a_search_outrun_the_limit(penalty: float) -> None:
    results = run(
        range(8), max_new_tokens=14, beams=3, early_stopping="never", length_penalty=penalty
    )
    assert max(len(words(result)) for result in results) <= 14
