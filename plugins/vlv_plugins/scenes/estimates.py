"""Scores of many scenes as rates, each with a bootstrap interval over scenes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlv_core.errors import UsageError
from vlv_plugins.scenes.scoring import Score
from vlv_plugins.scenes.templates import OBJECT_KEYS

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A rate, or a mean, and its bootstrap interval at `LEVEL`."""

    value: float
    low: float
    high: float


def aggregate(
    scores: Sequence[Score], *, seed: int, resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """Rates over all scenes, by name; one that nothing was asked about is left out.

    scene_f1, precision and coverage are micro-averages over objects; hallucination is the share of
    stated objects whose like is nowhere in the scene; accuracy_<attribute> is over true objects,
    relation_accuracy over stated relations, the others over scenes. Intervals are percentiles over
    `resamples` draws of whole scenes.
    Raises UsageError if there are no scores.
    """
    if not scores:
        raise UsageError("no scores to aggregate; score at least one scene")
    return _estimates([_fractions(item) for item in scores], seed=seed, resamples=resamples)


def averages(
    columns: Mapping[str, Sequence[float]], *, seed: int, resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """Means over scenes of other figures, by name; every column has a value a scene.

    Raises UsageError if there are no scenes.
    """
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if not rows:
        raise UsageError("no figures to average; measure at least one scene")
    weighed = [{name: (value, 1) for name, value in row.items()} for row in rows]
    return _estimates(weighed, seed=seed, resamples=resamples)


def _estimates(
    rows: Sequence[Mapping[str, tuple[float, float]]], *, seed: int, resamples: int
) -> dict[str, Estimate]:
    """Sums of numerators over sums of denominators, by name."""
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    table = np.array([[row.get(name, (0, 0)) for name in names] for row in rows], dtype=np.float64)
    totals = table.sum(axis=0)
    drawn = _resampled(table, seed=seed, resamples=resamples)
    return {
        name: _estimate(totals[column], drawn[:, column])
        for column, name in enumerate(names)
        if totals[column, 1] > 0
    }


def _fractions(item: Score) -> dict[str, tuple[int, int]]:
    """What one scene adds to each rate, as (numerator, denominator)."""
    found = item.objects
    fractions = {
        "scene_f1": (2 * found.matched, found.predicted + found.true),
        "precision": (found.matched, found.predicted),
        "coverage": (found.matched, found.true),
        "hallucination": (found.invented, found.predicted),
        "count_accuracy": (int(item.parsed and found.predicted == found.true), 1),
        "relation_accuracy": (item.relations_right, item.relations),
        "exact": (int(item.parsed and item.exact), 1),
        "unparsable": (int(not item.parsed), 1),
    }
    if item.background is not None:
        fractions["background_accuracy"] = (int(item.background), 1)
    for key in OBJECT_KEYS:
        if key in found.right:
            fractions[f"accuracy_{key}"] = (found.right[key], found.true)
    return fractions


def _resampled(table: NDArray[np.float64], *, seed: int, resamples: int) -> NDArray[np.float64]:
    """Column sums of (n, columns, 2) over draws of n scenes: (resamples, columns, 2)."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    sums = np.empty((resamples, *table.shape[1:]))
    for draw in range(resamples):
        chosen = generator.integers(len(table), size=len(table))
        weights = np.bincount(chosen, minlength=len(table)).astype(np.float64)
        sums[draw] = np.tensordot(weights, table, axes=1)
    return sums


def _estimate(total: NDArray[np.float64], drawn: NDArray[np.float64]) -> Estimate:
    # A draw in which nothing was asked says nothing about the rate.
    rates = drawn[drawn[:, 1] > 0]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(rates[:, 0] / rates[:, 1], [tail, 1 - tail])
    return Estimate(value=float(total[0] / total[1]), low=float(low), high=float(high))
