"""The decode loop on made-up languages: any function from a history to next-token probabilities."""

from functools import cache
from itertools import islice, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlv_core.errors import UsageError, VlvError
from vlv_core.generation import GenerationOptions, generate, stream
from vlv_core.generation.loop import nucleus
from vlv_core.generation.stopping import looping
from vlv_core.protocols import TopK
from vlv_core.randomness import Purpose, key_of, normal

VOCABULARY = 8
EOS = 0


@cache
def random_language(history):
    """Log-probabilities (8,) after `history`; a step on any wrong cache row would be noticed."""
    logits = 1.5 * normal(
        1, purpose=Purpose.DATA, step=0, key=key_of(repr(history)), shape=(VOCABULARY,)
    )
    return logits - np.log(np.exp(logits).sum())


def reciter(script):
    """A language of one sentence."""

    def language(history):
        certain = np.full(VOCABULARY, -20, np.float32)
        certain[script[(len(history) - 1) % len(script)]] = 0
        return certain

    return language


class HistoryStepper:
    """Its cache is the histories themselves: (prefix, token, token, ...)."""

    def __init__(self, prefixes, language=random_language, capacity=64):
        self.rows = [(prefix,) for prefix in prefixes]
        self.language = language
        self.capacity = capacity
        self.calls = []
        """rows in each call of the network"""

    def answer(self, k):
        self.calls.append(len(self.rows))
        log_probs = np.array([self.language(row) for row in self.rows], np.float32)
        log_probs = log_probs.reshape(len(self.rows), VOCABULARY)
        ids = np.argsort(-log_probs, axis=1, kind="stable")[:, :k]
        return TopK(np.take_along_axis(log_probs, ids, axis=1), ids)

    def prefill(self, k):
        return self.answer(k)

    def step(self, tokens, k):
        self.rows = [(*row, token) for row, token in zip(self.rows, tokens.tolist(), strict=True)]
        return self.answer(k)

    def select(self, rows):
        self.rows = [self.rows[row] for row in rows]


def run(prefixes, *, language=random_language, eos=(EOS,), keys=None, **options):
    stepper = HistoryStepper(prefixes, language)
    return generate(stepper, eos=eos, options=GenerationOptions(**options), keys=keys)


def words(result):
    """Tokens with the end of text."""
    return (*result.tokens, EOS) if result.finish_reason == "eos" else result.tokens


def sum_of_log_probs(prefix, tokens, language=random_language):
    steps = range(len(tokens))
    return sum(float(language((prefix, *tokens[:i]))[tokens[i]]) for i in steps)


def test_greedy_takes_the_best_word_each_time():
    for result in run(range(20), max_new_tokens=12):
        history = (result.row,)
        for token in words(result):
            assert token == random_language(history).argmax()
            history = (*history, token)
        assert result.finish_reason == ("eos" if len(result.tokens) < 12 else "length")
        expected = sum_of_log_probs(result.row, words(result))
        assert result.logprob == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}], ids=["greedy", "sampling"])
def test_a_finished_row_leaves_the_batch_at_once(options):
    stepper = HistoryStepper(range(20))
    options = GenerationOptions(max_new_tokens=12, **options)
    results = generate(stepper, eos=(EOS,), options=options, keys=range(20))
    lengths = [len(words(result)) for result in results]
    assert len(set(lengths)) > 3
    assert stepper.calls == [sum(n > step for n in lengths) for step in range(max(lengths))]


def test_a_finished_search_leaves_the_batch_at_once():
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


@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_a_sampled_row_is_the_same_alone_and_in_any_batch(top_p):
    def sampled(rows):
        keys = [1000 + row for row in rows]
        return run(rows, keys=keys, temperature=1.2, top_p=top_p, max_new_tokens=12, seed=5)

    together = sampled(range(20))
    assert len({result.tokens for result in together}) > 15
    backwards = sampled(range(19, -1, -1))[::-1]
    for row, result in enumerate(together):
        [alone] = sampled([row])
        for same in (alone, backwards[row]):
            assert same._replace(row=row) == result


def test_seed_and_key_change_the_words():
    def sampled(seed, key):
        return run([0], eos=(), keys=[key], temperature=2.0, max_new_tokens=12, seed=seed)[0].tokens

    assert sampled(1, 1) == sampled(1, 1)
    assert len({sampled(1, 1), sampled(2, 1), sampled(1, 2)}) == 3


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 256), (0.5, 256), (1.5, 3)])
def test_sampling_follows_the_exact_softmax(temperature, top_k):
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

    def softmax(history):
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


def test_sampled_logprob_is_the_models_own():
    for result in run(range(5), keys=range(5), temperature=0.7, top_p=0.9, max_new_tokens=8):
        expected = sum_of_log_probs(result.row, words(result))
        assert result.logprob == pytest.approx(expected, rel=1e-5)


@given(st.lists(st.floats(-8, 0), min_size=1, max_size=20), st.floats(0.01, 1))
def test_nucleus_is_the_smallest_leading_set_that_holds_p(log_probs, top_p):
    ordered = np.sort(np.array([log_probs]))[:, ::-1]
    weights = np.exp(ordered[0]) / np.exp(ordered[0]).sum()
    kept = nucleus(ordered, top_p=top_p)[0]
    size = np.count_nonzero(kept)
    assert kept.sum() == pytest.approx(1)
    np.testing.assert_allclose(kept[:size], weights[:size] / weights[:size].sum(), rtol=1e-9)
    assert weights[:size].sum() >= top_p - 1e-9
    assert size == 1 or weights[: size - 1].sum() < top_p + 1e-9


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}], ids=["greedy", "sampling"])
def test_streaming_is_generating(options):
    options = GenerationOptions(max_new_tokens=12, **options)
    streamed = {row: [] for row in range(10)}
    pieces = stream(HistoryStepper(range(10)), eos=(EOS,), options=options, keys=range(10))
    for row, token in pieces:
        streamed[row].append(token)
    results = generate(HistoryStepper(range(10)), eos=(EOS,), options=options, keys=range(10))
    assert {row: tuple(tokens) for row, tokens in streamed.items()} == {
        result.row: result.tokens for result in results
    }


def test_streaming_yields_each_word_before_computing_the_next():
    stepper = HistoryStepper([0, 1], reciter([3, 4, 5]))
    pieces = stream(stepper, eos=(EOS,), options=GenerationOptions(max_new_tokens=3))
    assert list(islice(pieces, 2)) == [(0, 3), (1, 3)]
    assert len(stepper.calls) == 1
    assert list(pieces) == [(0, 4), (1, 4), (0, 5), (1, 5)]


def exhaustive(prefix, length, penalty):
    """The best sentence of at most `length` words, by trying all."""
    best = (-np.inf, ())
    for size in range(1, length + 1):
        for tokens in product(range(VOCABULARY), repeat=size):
            ended = tokens[-1] == EOS or size == length
            if ended and EOS not in tokens[:-1]:
                score = sum_of_log_probs(prefix, tokens) / size**penalty
                best = max(best, (score, tokens))
    return best


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0, 2.0])
def test_a_search_wide_enough_finds_the_best_sentence_of_all(penalty):
    results = run(
        range(4), max_new_tokens=3, beams=64, early_stopping="never", length_penalty=penalty
    )
    for result in results:
        score, tokens = exhaustive(result.row, 3, penalty)
        assert words(result) == tokens
        assert result.logprob / len(tokens) ** penalty == pytest.approx(score, rel=1e-5)


def test_beams_find_what_greedy_misses():
    greedy = run(range(30), max_new_tokens=6)
    beams = run(range(30), max_new_tokens=6, beams=4, length_penalty=0.0, early_stopping="never")
    gains = [wide.logprob - narrow.logprob for wide, narrow in zip(beams, greedy, strict=True)]
    assert np.mean(gains) > 0.1 and np.mean(np.array(gains) > -1e-6) > 0.9


def loops_by_hand(tokens, window, count):
    for period in range(1, window + 1):
        span = max(window, count * period)
        tail = tokens[-span:]
        if len(tail) == span and (tail[:period] * span)[:span] == tail:
            return True
    return False


@given(st.lists(st.integers(0, 1), max_size=24), st.integers(1, 6), st.integers(2, 4))
@settings(max_examples=300)
def test_looping_is_a_repeated_tail(tokens, window, count):
    history = np.array([tokens, tokens[::-1]], np.int64).reshape(2, len(tokens))
    found = looping(history, window=window, count=count)
    assert found.tolist() == [loops_by_hand(row, window, count) for row in history.tolist()]


def test_looping_spares_emphasis_and_lists():
    very = [7, 7, 7, 7]
    rhyme = [1, 2, 3, 4, 5] * 3
    endless = [1, 2, 3, 4, 5] * 4
    for tokens, expected in ((very, False), (rhyme, False), (endless, True), (very * 4, True)):
        history = np.array([[6, *tokens]])
        assert looping(history, window=16, count=4).tolist() == [expected]


@pytest.mark.parametrize("beams", [1, 2])
def test_a_loop_ends_the_caption_and_is_named(beams):
    [result] = run([0], language=reciter([3, 4]), max_new_tokens=60, beams=beams)
    assert result.finish_reason == "repetition"
    assert result.tokens == (3, 4) * 8


@pytest.mark.parametrize("beams", [1, 2])
def test_a_loop_that_is_let_run_is_still_named(beams):
    [result] = run(
        [0], language=reciter([3, 4]), max_new_tokens=60, beams=beams, stop_on_repetition=False
    )
    assert result.finish_reason == "repetition"
    assert result.tokens == (3, 4) * 30


def test_only_the_looping_row_ends():
    def language(history):
        return reciter([3] if history[0] == 0 else [1, 2, 3, 4, 5, EOS])(history)

    looped, ended = run([0, 1], language=language, max_new_tokens=60, repetition_window=3)
    assert (looped.tokens, looped.finish_reason) == ((3,) * 4, "repetition")
    assert (ended.tokens, ended.finish_reason) == ((1, 2, 3, 4, 5), "eos")


@pytest.mark.parametrize("beams", [1, 3])
def test_reasons_and_edges(beams):
    def ask(script, **options):
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
def test_bad_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        GenerationOptions(**options)


def test_beams_do_not_stream():
    with pytest.raises(UsageError, match="a search of 2 beams has no words to stream") as caught:
        stream(
            HistoryStepper([0]), eos=(EOS,), options=GenerationOptions(beams=2, max_new_tokens=5)
        )
    assert caught.value.hint == "set beams to 1"


@pytest.mark.parametrize("call", [generate, stream])
def test_a_caption_longer_than_the_cache_is_refused(call):
    with pytest.raises(UsageError, match="max_new_tokens is 65, and the head's cache holds 64"):
        call(HistoryStepper([0]), eos=(EOS,), options=GenerationOptions(max_new_tokens=65))


def test_sampling_needs_one_key_a_row():
    with pytest.raises(UsageError, match="sampling needs a key for each row"):
        run([0], temperature=1.0, max_new_tokens=3)
    with pytest.raises(UsageError, match="1 keys were given for 2 rows; give one a row"):
        run([0, 1], keys=[1], temperature=1.0, max_new_tokens=3)


@pytest.mark.parametrize("options", [{}, {"beams": 2}, {"temperature": 1.0}])
def test_an_overflow_is_reported(options):
    def broken(history):
        return np.full(VOCABULARY, np.nan if len(history) == 3 else -2.0, np.float32)

    with pytest.raises(VlvError, match="log-probabilities are not a number") as caught:
        run([0], language=broken, eos=(), keys=[0], max_new_tokens=5, **options)
    assert caught.value.hint == "rerun with --dtype float32"
