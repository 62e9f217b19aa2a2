"""The decode loop, one token a row and step; a row that ends leaves the batch at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from vlv_core.errors import UsageError
from vlv_core.generation.beams import beam_search
from vlv_core.generation.options import FinishReason, Generated, GenerationOptions
from vlv_core.generation.stopping import checked, finish_reasons
from vlv_core.randomness import Purpose, uniform_rows

if TYPE_CHECKING:
    from vlv_core.protocols import Stepper


class Word(NamedTuple):
    """One token as it is chosen."""

    row: int
    token: int
    log_prob: float
    reason: str
    """why the row ends with this token; "" where it goes on"""


def generate(
    stepper: Stepper,
    *,
    eos: Collection[int],
    options: GenerationOptions,
    keys: Sequence[int] | None = None,
) -> list[Generated]:
    """Decode every prefix row of a fresh `stepper`; one result a row, in order.

    `keys` (one a row, needed to sample) decide the draws: a row gets the same words alone or in any
    batch. Raises UsageError for a caption longer than the cache, or missing keys.
    """
    _check_capacity(stepper, options)
    if options.beams > 1:
        return beam_search(stepper, eos=eos, options=options)
    rows: dict[int, list[Word]] = {}
    for word in _decode(stepper, eos=eos, options=options, keys=keys):
        rows.setdefault(word.row, []).append(word)
    return [_generated(rows[row]) for row in sorted(rows)]


def stream(
    stepper: Stepper,
    *,
    eos: Collection[int],
    options: GenerationOptions,
    keys: Sequence[int] | None = None,
) -> Iterator[tuple[int, int]]:
    """(row, token) as they are produced, without the end of text; `generate`'s tokens exactly.

    Raises UsageError for beams, which know no word until the search ends.
    """
    chosen = words(stepper, eos=eos, options=options, keys=keys)
    return ((word.row, word.token) for word in chosen if word.reason != "eos")


def words(
    stepper: Stepper,
    *,
    eos: Collection[int],
    options: GenerationOptions,
    keys: Sequence[int] | None = None,
) -> Iterator[Word]:
    """Every token of every row as it is chosen, ends of text among them, and why a row ends.

    Raises UsageError as `stream` does.
    """
    _check_capacity(stepper, options)
    if options.beams > 1:
        raise UsageError(
            f"a search of {options.beams} beams has no words to stream until it ends",
            hint="set beams to 1",
        )
    return _decode(stepper, eos=eos, options=options, keys=keys)


def nucleus(log_probs: NDArray[np.float64], *, top_p: float) -> NDArray[np.float64]:
    """Probabilities (R, k), zero outside the smallest leading set that holds `top_p`.

    `log_probs` (R, k) descend and need not be normalised. Holtzman et al., arXiv 1904.09751.
    """
    weights = np.exp(log_probs - log_probs[:, :1])
    weights /= weights.sum(axis=1, keepdims=True)
    before = np.cumsum(weights, axis=1) - weights
    # At 1.0 rounding alone could reach the bound and drop the last tokens.
    kept = weights if top_p == 1 else np.where(before < top_p, weights, 0)
    return kept / kept.sum(axis=1, keepdims=True)


def _decode(
    stepper: Stepper,
    *,
    eos: Collection[int],
    options: GenerationOptions,
    keys: Sequence[int] | None,
) -> Iterator[Word]:
    # Greedy asks for one candidate: backends then compute an argmax, and little is copied.
    width = options.top_k if options.temperature > 0 else 1
    top = checked(stepper.prefill(width))
    rows = np.arange(len(top.ids))
    row_keys = _row_keys(keys, rows=len(rows), options=options)
    history = np.empty((len(rows), 0), np.int64)
    for step in count():
        column = _choose(top.log_probs, options=options, step=step, keys=row_keys[rows])
        log_probs, tokens = (part[np.arange(len(rows)), column] for part in top)
        history = np.concatenate([history, tokens[:, None]], axis=1)
        reasons = finish_reasons(history, eos=eos, options=options)
        parts = (rows, tokens, log_probs, reasons)
        yield from map(Word, *(part.tolist() for part in parts))
        going = np.flatnonzero(reasons == "")
        # The length limit ends all rows at the latest.
        if not going.size:
            return
        if going.size < rows.size:
            kept = _closed_up(going)
            stepper.select(kept)
            rows, history = rows[kept], history[kept]
        top = checked(stepper.step(history[:, -1], width))


def _closed_up(going: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row that each place takes, so that little of a cache moves: (R',) of the same rows.

    Rows stay where they can; the last ones fill the gaps.
    """
    places = np.arange(going.size)
    places[np.setdiff1d(places, going)] = going[going >= going.size]
    return places


def _choose(
    log_probs: NDArray[np.float32],
    *,
    options: GenerationOptions,
    step: int,
    keys: NDArray[np.uint64],
) -> NDArray[np.int64]:
    """The candidate that each row takes: (R, k) -> column (R,)."""
    if options.temperature == 0:
        return np.zeros(len(log_probs), np.int64)
    probs = nucleus(log_probs.astype(np.float64) / options.temperature, top_p=options.top_p)
    draws = uniform_rows(
        options.seed, purpose=Purpose.TOKEN, step=step, keys=keys.tolist(), shape=(1,)
    )
    cumulative = np.cumsum(probs, axis=1)
    # Scaled by the total, a draw below 1 always falls before the first candidate of no weight.
    return (cumulative <= draws * cumulative[:, -1:]).sum(axis=1)


def _row_keys(
    keys: Sequence[int] | None, *, rows: int, options: GenerationOptions
) -> NDArray[np.uint64]:
    if keys is None and options.temperature > 0:
        raise UsageError("sampling needs a key for each row, so that its words can be repeated")
    if keys is not None and len(keys) != rows:
        raise UsageError(f"{len(keys)} keys were given for {rows} rows; give one a row")
    return np.array([0] * rows if keys is None else keys, dtype=np.uint64)


def _check_capacity(stepper: Stepper, options: GenerationOptions) -> None:
    if options.max_new_tokens > stepper.capacity:
        raise UsageError(
            f"max_new_tokens is {options.max_new_tokens}, and the head's cache holds "
            f"{stepper.capacity}, prefix included",
            hint="lower max_new_tokens",
        )


def _generated(words: list[Word]) -> Generated:
    reason = cast(FinishReason, words[-1].reason)
    tokens = [word.token for word in words]
    return Generated(
        row=words[-1].row,
        tokens=tuple(tokens[:-1] if reason == "eos" else tokens),
        finish_reason=reason,
        logprob=sum(word.log_prob for word in words),
    )
