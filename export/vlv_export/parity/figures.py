"""How far two answers lie apart, row by row, in float64.

Shape legend: B rows, P positions of captions, k best tokens, V vocabulary.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
PERCENTILES = (50, 90, 99)


def rows_of(array: NDArray[np.generic]) -> NDArray[np.float64]:
    """(B, ...) -> float64 (B, everything else)."""
    return np.asarray(array, np.float64).reshape(len(array), -1)


def relative_l2(found: Floats, expected: Floats) -> NDArray[np.float64]:
    """|found - expected| / |expected| of each row, (B,). NaN and infinity in `found` stay."""
    difference, truth = rows_of(found) - rows_of(expected), rows_of(expected)
    return np.linalg.norm(difference, axis=1) / np.maximum(np.linalg.norm(truth, axis=1), 1e-12)


def cosine(found: Floats, expected: Floats) -> NDArray[np.float64]:
    """The cosine of the angle between each row and what was expected, (B,); 1 where both are 0."""
    left, right = rows_of(found), rows_of(expected)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    both_zero = ~left.any(axis=1) & ~right.any(axis=1)
    return np.where(both_zero, 1.0, (left * right).sum(axis=1) / np.maximum(norms, 1e-24))


def greatest(found: Floats, expected: Floats) -> NDArray[np.float64]:
    """The largest absolute difference of each row, (B,)."""
    return np.abs(rows_of(found) - rows_of(expected)).max(axis=1, initial=0.0)


def centred(logits: Floats) -> NDArray[np.float64]:
    """Logits (..., V) less their mean: what they say, because a constant on top says nothing."""
    wide = np.asarray(logits, np.float64)
    return wide - wide.mean(axis=-1, keepdims=True)


def per_position(logits: Floats) -> NDArray[np.float64]:
    """(B, T, V) -> centred (B T, V), so that each position is judged by itself."""
    return centred(logits.reshape(-1, logits.shape[-1]))


def divergence(expected: NDArray[np.float64], found: NDArray[np.float64]) -> NDArray[np.float64]:
    """KL(expected || found) in nats, (P,), over k tokens and all others as one.

    Both are log-probabilities (P, k) of the same tokens. Lumping the rest can only lower the
    figure, never raise it.
    """
    p, q = (_with_rest(each) for each in (expected, found))
    return np.maximum((p * (np.log(p) - np.log(q))).sum(axis=1), 0.0)


def _with_rest(log_probs: NDArray[np.float64]) -> NDArray[np.float64]:
    probs = np.exp(np.asarray(log_probs, np.float64))
    rest = 1.0 - probs.sum(axis=1, keepdims=True)
    # Float32 log-probabilities may sum to a hair above one.
    return np.maximum(np.concatenate([probs, rest], axis=1), 1e-9)


def overlap(found: NDArray[np.int64], expected: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of the expected ids (P, n) that are among the found (P, n), (P,)."""
    return (expected[:, :, None] == found[:, None, :]).any(axis=2).mean(axis=1)


def agreed(found: Sequence[int], expected: Sequence[int]) -> int:
    """How many tokens at the start are the same."""
    pairs = zip(found, expected, strict=False)
    return next(
        (index for index, (left, right) in enumerate(pairs) if left != right),
        min(len(found), len(expected)),
    )


def edit_distance(found: Sequence[int], expected: Sequence[int]) -> int:
    """Insertions, deletions and replacements that turn one into the other (Levenshtein, 1966)."""
    previous = list(range(len(expected) + 1))
    for row, left in enumerate(found, start=1):
        current = [row]
        for column, right in enumerate(expected, start=1):
            replaced = previous[column - 1] + (left != right)
            current.append(min(previous[column] + 1, current[-1] + 1, replaced))
        previous = current
    return previous[-1]


def distribution(values: Floats) -> Mapping[str, float]:
    """Percentiles and extremes of a figure over rows; empty if there are none."""
    if not np.size(values):
        return {}
    named = {f"p{each}": float(np.percentile(values, each)) for each in PERCENTILES}
    return {"min": float(np.min(values)), **named, "max": float(np.max(values))}
