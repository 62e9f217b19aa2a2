"""When a caption ends, for greedy, sampling and beams alike."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vlv_core.errors import VlvError

if TYPE_CHECKING:
    from vlv_core.generation.options import GenerationOptions
    from vlv_core.protocols import TopK


def looping(history: NDArray[np.int64], *, window: int, count: int) -> NDArray[np.bool_]:
    """Which rows of `history` (R, n) end in a loop: (R,).

    A row loops if its last max(window, count * period) tokens repeat with a period of at most
    `window`. So a long phrase needs `count` rounds, and a single token must fill the window: "very
    very very very" is no loop.
    """
    loops = np.zeros(len(history), bool)
    before = history[:, -1 - window : -1]
    rows, columns = np.nonzero(before == history[:, -1:])
    periods = before.shape[1] - columns
    due = np.maximum(window, count * periods) - periods
    pairs = np.stack([rows, periods, due])[:, due + periods <= history.shape[1]]
    agreed = 1
    # Back from the newest token with those pairs of row and period that agree: few, or soon none.
    while pairs.size:
        loops[pairs[0, pairs[2] == agreed]] = True
        pairs = pairs[:, pairs[2] > agreed]
        agreed += 1
        rows, periods, _ = pairs
        pairs = pairs[:, history[rows, -agreed] == history[rows, -agreed - periods]]
    return loops


def finish_reasons(
    history: NDArray[np.int64], *, eos: Collection[int], options: GenerationOptions
) -> NDArray[np.str_]:
    """Why each row of `history` (R, n), newest token last, ends here: (R,), "" where it goes on."""
    full = history.shape[1] == options.max_new_tokens
    reasons = np.full(len(history), "length" if full else "", dtype="<U10")
    # A loop that ran into the length limit is still called a loop: it is never hidden.
    if full or options.stop_on_repetition:
        loops = looping(history, window=options.repetition_window, count=options.repetition_count)
        reasons[loops] = "repetition"
    reasons[(history[:, -1:] == np.array(list(eos), np.int64)).any(axis=1)] = "eos"
    return reasons


def checked(top: TopK) -> TopK:
    """The stepper's answer, unless the head overflowed. Raises VlvError."""
    if np.isnan(top.log_probs).any():
        raise VlvError(
            "the head's log-probabilities are not a number", hint="rerun with --dtype float32"
        )
    return top
