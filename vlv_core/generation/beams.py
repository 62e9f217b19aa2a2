"""Beam search exactly as transformers' `GenerationMixin._beam_search` defines it (5.x).

G input rows still searched, W beams a row, C = 2 W candidates (more with several ends of text),
n tokens so far. A length counts generated tokens, end of text included, prefix excluded.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from vlv_core.generation.options import FinishReason, Generated
from vlv_core.generation.stopping import checked, finish_reasons

if TYPE_CHECKING:
    from vlv_core.generation.options import GenerationOptions
    from vlv_core.protocols import Stepper, TopK

_NEVER = np.float32(-1e9)
"""log-probability of what must not be taken"""


class _Beams(NamedTuple):
    """Running beams, or candidates to become beams; X is W or C, best first."""

    history: NDArray[np.int64]
    """tokens (G, X, n)"""
    sums: NDArray[np.float32]
    """log-probabilities (G, X)"""
    parents: NDArray[np.int64]
    """which of the W beams before each one continues (G, X)"""

    def take(self, order: NDArray[np.int64]) -> _Beams:
        """Reorder or drop within each row: `order` (G, X')."""
        return _Beams(
            np.take_along_axis(self.history, order[..., None], axis=1),
            np.take_along_axis(self.sums, order, axis=1),
            np.take_along_axis(self.parents, order, axis=1),
        )

    def keep(self, rows: NDArray[np.bool_]) -> _Beams:
        """Drop whole rows: `rows` (G,)."""
        return _Beams(self.history[rows], self.sums[rows], self.parents[rows])


class _Hypothesis(NamedTuple):
    score: float
    """sum / length ** length_penalty"""
    generated: Generated


def beam_search(
    stepper: Stepper, *, eos: Collection[int], options: GenerationOptions
) -> list[Generated]:
    """The best hypothesis of each prefix row, in order; a row whose search is over leaves at once.

    With `stop_on_repetition`, a looping beam ends as a stopping criterion of transformers would
    end it.
    """
    beams = options.beams
    # Each beam can offer every end of text once, and `beams` must be left to go on.
    width = max(2, 1 + len(eos)) * beams
    top = checked(stepper.prefill(width))
    found: list[list[_Hypothesis]] = [[] for _ in top.ids]
    rows = np.arange(len(found))
    if rows.size:
        stepper.select(np.repeat(rows, beams))
        top = top._replace(
            log_probs=np.repeat(top.log_probs, beams, axis=0), ids=np.repeat(top.ids, beams, axis=0)
        )
    running = _first(len(rows), beams)
    while rows.size:
        candidates = _extend(running, top, width)
        reasons = _reasons(candidates, eos=eos, options=options)
        _collect(found, rows, candidates, reasons, options=options)
        running = _survivors(candidates, reasons, beams)
        going = _going(running, reasons, [found[row] for row in rows], options=options)
        if not going.any():
            break
        _follow(stepper, running, going)
        rows, running = rows[going], running.keep(going)
        top = checked(stepper.step(running.history[:, :, -1].reshape(-1), width))
    return [hypotheses[0].generated for hypotheses in found]


def _first(groups: int, beams: int) -> _Beams:
    """Beams of no tokens. All are equal, so that only the first may offer candidates."""
    sums = np.full((groups, beams), _NEVER)
    sums[:, 0] = 0
    return _Beams(np.empty((groups, beams, 0), np.int64), sums, np.zeros((groups, beams), np.int64))


def _extend(running: _Beams, top: TopK, width: int) -> _Beams:
    """The best `width` continuations over all beams of a row; `top` is (G * W, k)."""
    groups, beams = running.sums.shape
    k = top.ids.shape[1]
    sums = (running.sums[..., None] + top.log_probs.reshape(groups, beams, k)).reshape(groups, -1)
    # Stable, so that equal sums go to the better beam, in every runtime alike.
    order = np.argsort(-sums, axis=1, kind="stable")[:, :width]
    chosen = running.take(order // k)
    tokens = np.take_along_axis(top.ids.reshape(groups, -1), order, axis=1)
    return _Beams(
        np.concatenate([chosen.history, tokens[..., None]], axis=2),
        np.take_along_axis(sums, order, axis=1),
        order // k,
    )


def _reasons(
    candidates: _Beams, *, eos: Collection[int], options: GenerationOptions
) -> NDArray[np.str_]:
    """Why each candidate ends (G, C), "" where it may go on."""
    groups, width, length = candidates.history.shape
    flat = candidates.history.reshape(groups * width, length)
    return finish_reasons(flat, eos=eos, options=options).reshape(groups, width)


def _collect(
    found: list[list[_Hypothesis]],
    rows: NDArray[np.int64],
    candidates: _Beams,
    reasons: NDArray[np.str_],
    *,
    options: GenerationOptions,
) -> None:
    """Keep the best W ended hypotheses of each row.

    Only the first W candidates may end; the others stand by to replace them as beams.
    """
    length = candidates.history.shape[2]
    scores = candidates.sums / length**options.length_penalty
    for group, column in zip(*np.nonzero(reasons[:, : options.beams] != ""), strict=True):
        reason = cast(FinishReason, str(reasons[group, column]))
        tokens = candidates.history[group, column].tolist()
        generated = Generated(
            row=int(rows[group]),
            tokens=tuple(tokens[:-1] if reason == "eos" else tokens),
            finish_reason=reason,
            logprob=float(candidates.sums[group, column]),
        )
        hypotheses = found[rows[group]]
        hypotheses.append(_Hypothesis(float(scores[group, column]), generated))
        # Also stable: of equal scores, the one found first stays ahead.
        hypotheses.sort(key=lambda hypothesis: -hypothesis.score)
        del hypotheses[options.beams :]


def _survivors(candidates: _Beams, reasons: NDArray[np.str_], beams: int) -> _Beams:
    """The best W candidates that go on; an ended one is a last resort that can never win."""
    ended = reasons != ""
    # Candidates descend already: a stable sort by "ended" only moves the ended ones back.
    order = np.argsort(ended, axis=1, kind="stable")[:, :beams]
    return candidates._replace(sums=np.where(ended, _NEVER, candidates.sums)).take(order)


def _going(
    running: _Beams,
    reasons: NDArray[np.str_],
    found: list[list[_Hypothesis]],
    *,
    options: GenerationOptions,
) -> NDArray[np.bool_]:
    """Rows whose best running beam may yet beat the worst of the W hypotheses found: (G,)."""
    length = running.history.shape[2]
    if options.early_stopping == "never" and options.length_penalty > 0:
        length = options.max_new_tokens
    # Float32 like transformers' scores, so that a near tie is decided as there.
    possible = running.sums[:, 0] / length**options.length_penalty
    full = np.array([len(hypotheses) == options.beams for hypotheses in found])
    worst = np.array([hypotheses[-1].score if hypotheses else 0 for hypotheses in found])
    improvable = np.zeros_like(full) if options.early_stopping is True else possible > worst
    return (reasons == "").any(axis=1) & (~full | improvable)


def _follow(stepper: Stepper, running: _Beams, going: NDArray[np.bool_]) -> None:
    """Make the cache hold the rows that the going beams continue, unless it already does."""
    groups, beams = running.parents.shape
    sources = (np.arange(groups)[:, None] * beams + running.parents)[going].reshape(-1)
    if not np.array_equal(sources, np.arange(groups * beams)):
        stepper.select(sources)
