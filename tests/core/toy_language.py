"""Made-up languages: any function from a history to next-token probabilities, and its stepper."""

from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlv_core.generation import Generated, GenerationOptions, generate
from vlv_core.protocols import TopK
from vlv_core.randomness import Purpose, key_of, normal

History = tuple[int, ...]
"""(prefix, token, token, ...)"""
LogProbs = NDArray[np.float32]
"""(VOCABULARY,)"""
Language = Callable[[History], LogProbs]

VOCABULARY = 8
EOS = 0


@cache
def random_language(history: History) -> LogProbs:
    """Log-probabilities (8,) after `history`; a step on any wrong cache row would be noticed."""
    logits = 1.5 * normal(
        1, purpose=Purpose.DATA, step=0, key=key_of(repr(history)), shape=(VOCABULARY,)
    )
    return logits - np.log(np.exp(logits).sum())


def reciter(script: Sequence[int]) -> Language:
    """A language of one sentence."""

    def language(history: History) -> LogProbs:
        certain = np.full(VOCABULARY, -20, np.float32)
        certain[script[(len(history) - 1) % len(script)]] = 0
        return certain

    return language


class HistoryStepper:
    """Its cache is the histories themselves."""

    def __init__(
        self, prefixes: Sequence[int], language: Language = random_language, capacity: int = 64
    ) -> None:
        self.rows: list[History] = [(prefix,) for prefix in prefixes]
        self.language = language
        self.capacity = capacity
        self.calls: list[int] = []
        """rows in each call of the network"""

    def answer(self, k: int) -> TopK:
        self.calls.append(len(self.rows))
        log_probs = np.array([self.language(row) for row in self.rows], np.float32)
        log_probs = log_probs.reshape(len(self.rows), VOCABULARY)
        ids = np.argsort(-log_probs, axis=1, kind="stable")[:, :k]
        return TopK(np.take_along_axis(log_probs, ids, axis=1), ids)

    def prefill(self, k: int) -> TopK:
        return self.answer(k)

    def step(self, tokens: NDArray[np.int64], k: int) -> TopK:
        self.rows = [(*row, token) for row, token in zip(self.rows, tokens.tolist(), strict=True)]
        return self.answer(k)

    def select(self, rows: NDArray[np.int64]) -> None:
        self.rows = [self.rows[row] for row in rows]


def run(
    prefixes: Sequence[int],
    *,
    language: Language = random_language,
    eos: Collection[int] = (EOS,),
    keys: Sequence[int] | None = None,
    **options: Any,
) -> list[Generated]:
    stepper = HistoryStepper(prefixes, language)
    return generate(stepper, eos=eos, options=GenerationOptions(**options), keys=keys)


def words(result: Generated) -> tuple[int, ...]:
    """Tokens with the end of text."""
    return (*result.tokens, EOS) if result.finish_reason == "eos" else result.tokens


def sum_of_log_probs(
    prefix: int, tokens: Sequence[int], language: Language = random_language
) -> float:
    steps = range(len(tokens))
    return sum(float(language((prefix, *tokens[:i]))[tokens[i]]) for i in steps)


def constant(**probabilities: float) -> LogProbs:
    """The same next-token probabilities after any history: `constant(t3=0.9, t0=0.1)`."""
    log_probs = np.full(VOCABULARY, -20, np.float32)
    for name, probability in probabilities.items():
        log_probs[int(name[1:])] = np.log(probability)
    return log_probs
