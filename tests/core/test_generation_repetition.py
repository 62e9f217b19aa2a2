"""Loops: what is one, that it ends a caption, and that it is never hidden."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.toy_language import EOS, History, LogProbs, random_language, reciter, run
from vlv_core.generation.stopping import looping

# A busy machine must not fail a test.
PATIENT = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def stammering(history: History) -> LogProbs:
    """A language that likes to say the last word again, or to end."""
    logits = random_language(history).copy()
    logits[history[-1] if len(history) > 1 else 1] += 2.5
    logits[EOS] += 1.5
    return logits - np.log(np.exp(logits).sum())


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_nothing_is_said_after_a_loop(beams: int) -> None:
    results = run(
        range(40),
        language=stammering,
        max_new_tokens=12,
        beams=beams,
        length_penalty=2.0,
        repetition_window=2,
        repetition_count=2,
    )
    reasons = {result.finish_reason for result in results}
    assert "repetition" in reasons and len(reasons) > 1
    for result in results:
        tokens = list(result.tokens)
        loops = [loops_by_hand(tokens[:n], 2, 2) for n in range(1, len(tokens) + 1)]
        assert not any(loops[:-1])
        assert loops[-1:] == [result.finish_reason == "repetition"] or not tokens


def loops_by_hand(tokens: list[int], window: int, count: int) -> bool:
    for period in range(1, window + 1):
        span = max(window, count * period)
        tail = tokens[-span:]
        if len(tail) == span and (tail[:period] * span)[:span] == tail:
            return True
    return False


@given(st.lists(st.integers(0, 1), max_size=24), st.integers(1, 6), st.integers(2, 4))
@settings(PATIENT, max_examples=100)
def test_looping_is_a_repeated_tail(tokens: list[int], window: int, count: int) -> None:
    history = np.array([tokens, tokens[::-1]], np.int64).reshape(2, len(tokens))
    found = looping(history, window=window, count=count)
    assert found.tolist() == [loops_by_hand(row, window, count) for row in history.tolist()]


def test_looping_spares_emphasis_and_lists() -> None:
    very = [7, 7, 7, 7]
    rhyme = [1, 2, 3, 4, 5] * 3
    endless = [1, 2, 3, 4, 5] * 4
    for tokens, expected in ((very, False), (rhyme, False), (endless, True), (very * 4, True)):
        history = np.array([[6, *tokens]])
        assert looping(history, window=16, count=4).tolist() == [expected]


@pytest.mark.parametrize("beams", [1, 2])
def test_a_loop_ends_the_caption_and_is_named(beams: int) -> None:
    [result] = run([0], language=reciter([3, 4]), max_new_tokens=60, beams=beams)
    assert result.finish_reason == "repetition"
    assert result.tokens == (3, 4) * 8


@pytest.mark.parametrize("beams", [1, 2])
def test_a_loop_that_is_let_run_is_still_named(beams: int) -> None:
    [result] = run(
        [0], language=reciter([3, 4]), max_new_tokens=60, beams=beams, stop_on_repetition=False
    )
    assert result.finish_reason == "repetition"
    assert result.tokens == (3, 4) * 30


def test_only_the_looping_row_ends() -> None:
    def language(history: History) -> LogProbs:
        return reciter([3] if history[0] == 0 else [1, 2, 3, 4, 5, EOS])(history)

    looped, ended = run([0, 1], language=language, max_new_tokens=60, repetition_window=3)
    assert (looped.tokens, looped.finish_reason) == ((3,) * 4, "repetition")
    assert (ended.tokens, ended.finish_reason) == ((1, 2, 3, 4, 5), "eos")
