"""The decode loop on made-up languages: greedy, sampling, streaming, refusals."""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.core.toy_language import (
    EOS,
    VOCABULARY,
    History,
    HistoryStepper,
    LogProbs,
    random_language,
    reciter,
    run,
    sum_of_log_probs,
    words,
)
from vlv_core.errors import UsageError, VlvError
from vlv_core.generation import GenerationOptions, generate, stream
from vlv_core.generation import words as words_of
from vlv_core.generation.loop import nucleus

# A busy machine must not fail a test.
PATIENT = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def test_greedy_takes_the_best_word_each_time() -> None:
    for result in run(range(20), max_new_tokens=12):
        history: History = (result.row,)
        for token in words(result):
            assert token == random_language(history).argmax()
            history = (*history, token)
        assert result.finish_reason == ("eos" if len(result.tokens) < 12 else "length")
        expected = sum_of_log_probs(result.row, words(result))
        assert result.logprob == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}], ids=["greedy", "sampling"])
def test_a_finished_row_leaves_the_batch_at_once(options: dict[str, Any]) -> None:
    stepper = HistoryStepper(range(20))
    made = GenerationOptions(max_new_tokens=12, **options)
    results = generate(stepper, eos=(EOS,), options=made, keys=range(20))
    lengths = [len(words(result)) for result in results]
    assert len(set(lengths)) > 3
    assert stepper.calls == [sum(n > step for n in lengths) for step in range(max(lengths))]


def test_rows_that_go_on_stay_in_place_where_they_can() -> None:
    """A cache then copies at most one row for each that ended."""
    lengths = [3, 1, 4, 1, 5, 2, 6, 5, 3, 5]
    stepper = HistoryStepper(
        range(10),
        language=lambda history: reciter([1] * (lengths[history[0]] - 1) + [EOS])(history),
    )
    moved: list[tuple[int, int]] = []
    plain = stepper.select

    def select(rows: NDArray[np.int64]) -> None:
        moved.append((int((rows != np.arange(len(rows))).sum()), len(stepper.rows) - len(rows)))
        plain(rows)

    stepper.select = select  # type: ignore[method-assign]
    results = generate(stepper, eos=(EOS,), options=GenerationOptions(max_new_tokens=12))
    assert [len(words(result)) for result in results] == lengths
    assert [ended for _, ended in moved] == [2, 1, 2, 1, 3]
    assert all(copied <= ended for copied, ended in moved)


@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_a_sampled_row_is_the_same_alone_and_in_any_batch(top_p: float) -> None:
    def sampled(rows: Sequence[int]) -> Any:
        keys = [1000 + row for row in rows]
        return run(rows, keys=keys, temperature=1.2, top_p=top_p, max_new_tokens=12, seed=5)

    together = sampled(range(20))
    assert len({result.tokens for result in together}) > 15
    backwards = sampled(range(19, -1, -1))[::-1]
    for row, result in enumerate(together):
        [alone] = sampled([row])
        for same in (alone, backwards[row]):
            assert same._replace(row=row) == result


def test_seed_and_key_change_the_words() -> None:
    def sampled(seed: int, key: int) -> Any:
        return run([0], eos=(), keys=[key], temperature=2.0, max_new_tokens=12, seed=seed)[0].tokens

    assert sampled(1, 1) == sampled(1, 1)
    assert len({sampled(1, 1), sampled(2, 1), sampled(1, 2)}) == 3


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 256), (0.5, 256), (1.5, 3)])
def test_sampling_follows_the_exact_softmax(temperature: float, top_k: int) -> None:
    """Chi-square over all pairs of first and second words."""
    draws = 4000
    results = run(
        [0] * draws,
        eos=(),
        keys=range(draws),
        temperature=temperature,
        top_k=top_k,
        max_new_tokens=2,
    )
    counts = np.zeros((VOCABULARY, VOCABULARY))
    np.add.at(counts, tuple(np.array([result.tokens for result in results]).T), 1)

    def softmax(history: History) -> NDArray[np.float64]:
        weights = np.exp(random_language(history) / temperature)
        weights[np.argsort(-weights)[top_k:]] = 0
        return weights / weights.sum()

    expected = draws * np.array([softmax((0,))[a] * softmax((0, a)) for a in range(VOCABULARY)])
    assert counts[expected == 0].sum() == 0
    likely = expected > 0
    chi_square = ((counts - expected)[likely] ** 2 / expected[likely]).sum()
    freedom = likely.sum() - 1
    # Wilson and Hilferty's approximation: 3.1 standard deviations is 1 in 1000.
    cube = (chi_square / freedom) ** (1 / 3)
    assert abs(cube - (1 - 2 / (9 * freedom))) < 3.1 * np.sqrt(2 / (9 * freedom))


def test_sampled_logprob_is_the_models_own() -> None:
    for result in run(range(5), keys=range(5), temperature=0.7, top_p=0.9, max_new_tokens=8):
        expected = sum_of_log_probs(result.row, words(result))
        assert result.logprob == pytest.approx(expected, rel=1e-5)


@given(st.lists(st.floats(-8, 0), min_size=1, max_size=20), st.floats(0.01, 1))
@PATIENT
def test_nucleus_is_the_smallest_leading_set_that_holds_p(
    log_probs: list[float], top_p: float
) -> None:
    ordered = np.sort(np.array([log_probs]))[:, ::-1]
    weights = np.exp(ordered[0]) / np.exp(ordered[0]).sum()
    kept = nucleus(ordered, top_p=top_p)[0]
    size = np.count_nonzero(kept)
    assert kept.sum() == pytest.approx(1)
    np.testing.assert_allclose(kept[:size], weights[:size] / weights[:size].sum(), rtol=1e-9)
    assert weights[:size].sum() >= top_p - 1e-9
    assert size == 1 or weights[: size - 1].sum() < top_p + 1e-9


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}], ids=["greedy", "sampling"])
def test_streaming_is_generating(options: dict[str, Any]) -> None:
    made = GenerationOptions(max_new_tokens=12, **options)
    streamed: dict[int, list[int]] = {row: [] for row in range(10)}
    pieces = stream(HistoryStepper(range(10)), eos=(EOS,), options=made, keys=range(10))
    for row, token in pieces:
        streamed[row].append(token)
    results = generate(HistoryStepper(range(10)), eos=(EOS,), options=made, keys=range(10))
    assert {row: tuple(tokens) for row, tokens in streamed.items()} == {
        result.row: result.tokens for result in results
    }


def test_words_tell_why_each_row_ends() -> None:
    chosen = list(
        words_of(
            HistoryStepper(range(10)), eos=(EOS,), options=GenerationOptions(max_new_tokens=12)
        )
    )
    ends = {word.row: word for word in chosen if word.reason}
    results = run(range(10), max_new_tokens=12)
    assert [ends[result.row].reason for result in results] == [r.finish_reason for r in results]
    assert {word.token for word in ends.values() if word.reason == "eos"} == {EOS}
    for result in results:
        said = [word for word in chosen if word.row == result.row]
        assert tuple(word.token for word in said) == words(result)
        assert sum(word.log_prob for word in said) == pytest.approx(result.logprob)


def test_streaming_yields_each_word_before_computing_the_next() -> None:
    stepper = HistoryStepper([0, 1], reciter([3, 4, 5]))
    pieces = stream(stepper, eos=(EOS,), options=GenerationOptions(max_new_tokens=3))
    assert list(islice(pieces, 2)) == [(0, 3), (1, 3)]
    assert len(stepper.calls) == 1
    assert list(pieces) == [(0, 4), (1, 4), (0, 5), (1, 5)]


@pytest.mark.parametrize("beams", [1, 3])
def test_reasons_and_edges(beams: int) -> None:
    def ask(script: Sequence[int], **options: Any) -> tuple[tuple[int, ...], str]:
        [result] = run([0], language=reciter(script), beams=beams, **options)
        return result.tokens, result.finish_reason

    assert ask([EOS], max_new_tokens=5, length_penalty=0.0) == ((), "eos")
    assert ask([3, EOS], max_new_tokens=1) == ((3,), "length")
    assert ask([3, EOS], max_new_tokens=2) == ((3,), "eos")
    assert ask([3, 4, 5], max_new_tokens=5, eos=()) == ((3, 4, 5, 3, 4), "length")
    assert ask([3, 4, 5], max_new_tokens=5, eos={4, 5}) == ((3,), "eos")
    assert run([], beams=beams, max_new_tokens=5) == []


BAD_OPTIONS = [
    ({"max_new_tokens": 0}, r"max_new_tokens is 0; use 1\.\."),
    ({"beams": 0}, r"beams is 0; use 1\.\.128"),
    ({"beams": 129}, r"beams is 129; use 1\.\.128"),
    ({"temperature": -1.0}, r"temperature is -1\.0; use 0\.\.100"),
    ({"temperature": float("nan")}, "temperature is nan"),
    ({"temperature": 1.0, "top_k": 257}, r"top_k is 257; use 1\.\.256"),
    ({"temperature": 1.0, "top_p": 1.5}, r"top_p is 1\.5; use 0\.\.1"),
    ({"temperature": 1.0, "top_p": 0.0}, "top_p is 0, which leaves no token"),
    ({"length_penalty": 11.0}, r"length_penalty is 11\.0; use -10\.\.10"),
    ({"early_stopping": "always"}, "early_stopping is 'always'; use true, false or 'never'"),
    ({"repetition_window": 0}, r"repetition_window is 0; use 1\.\."),
    ({"repetition_count": 1}, r"repetition_count is 1; use 2\.\."),
    ({"seed": -1}, r"seed is -1; use 0\.\."),
    ({"beams": 2, "temperature": 1.0}, r"beams=2 searches and temperature=1\.0 draws; use one"),
    ({"top_p": 0.9}, "top_p and top_k act on sampling only; set temperature above 0 too"),
    ({"top_k": 5}, "top_p and top_k act on sampling only"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        GenerationOptions(**options)


def test_beams_do_not_stream() -> None:
    with pytest.raises(UsageError, match="a search of 2 beams has no words to stream") as caught:
        stream(
            HistoryStepper([0]), eos=(EOS,), options=GenerationOptions(beams=2, max_new_tokens=5)
        )
    assert caught.value.hint == "set beams to 1"


@pytest.mark.parametrize("call", [generate, stream])
def test_a_caption_longer_than_the_cache_is_refused(call: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="max_new_tokens is 65, and the head's cache holds 64"):
        call(HistoryStepper([0]), eos=(EOS,), options=GenerationOptions(max_new_tokens=65))


def test_sampling_needs_one_key_a_row() -> None:
    with pytest.raises(UsageError, match="sampling needs a key for each row"):
        run([0], temperature=1.0, max_new_tokens=3)
    with pytest.raises(UsageError, match="1 keys were given for 2 rows; give one a row"):
        run([0, 1], keys=[1], temperature=1.0, max_new_tokens=3)


@pytest.mark.parametrize("options", [{}, {"beams": 2}, {"temperature": 1.0}])
def test_an_overflow_is_reported(options: dict[str, Any]) -> None:
    def broken(history: History) -> LogProbs:
        return np.full(VOCABULARY, np.nan if len(history) == 3 else -2.0, np.float32)

    with pytest.raises(VlvError, match="log-probabilities are not a number") as caught:
        run([0], language=broken, eos=(), keys=[0], max_new_tokens=5, **options)
    assert caught.value.hint == "rerun with --dtype float32"
