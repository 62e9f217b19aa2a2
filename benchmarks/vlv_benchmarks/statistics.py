"""What may be said of a few noisy turns: intervals, ratios in pairs, percentiles, drift.

The unit of observation is a turn (a fresh process), never a call: calls of one process share its
memory layout, its clock frequency and its luck, so that many of them are no more evidence.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from vlv_benchmarks.record import Verdict
from vlv_benchmarks.turn import Probe, Rates

RESAMPLES = 2000
FEWEST_TURNS = 5
"""below this no interval holds 95 %, and every verdict is `inconclusive`"""
MARGIN = 0.02
"""ratios within 1/1.02 and 1.02 are equal for all who use the thing"""
MOST_DRIFT = 0.03
NEEDED = {90: 36, 95: 72, 99: 368}
"""percentile -> samples below which too few lie beyond it to place it"""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A median and where the true one lies in 95 of 100 such measurements."""

    n: int
    median: float
    low: float
    high: float


def interval(values: Sequence[float], *, seed: int) -> Interval:
    """The median of values with its bootstrap interval.

    The expanded percentile interval (Hesterberg, "What Teachers Should Know about the Bootstrap",
    2015): the plain one covers 87 % at 7 values, because resampling n values is too narrow by
    sqrt((n - 1) / n) and takes no account of Student's t. Simulated coverage of this one is 93 to
    99 % from 5 values on; at 5 it is their range. Below 5 it is their range too, and covers less.

    Raises ValueError for no values.
    """
    if not len(values):
        raise ValueError("no values to take a median of")
    drawn = _resampled(values, np.random.default_rng(seed))
    low, high = np.quantile(drawn, _tails(len(values)))
    return Interval(
        n=len(values), median=float(np.median(values)), low=float(low), high=float(high)
    )


def ratio_of_medians(
    numerator: Sequence[float], denominator: Sequence[float], *, seed: int
) -> Interval:
    """median(numerator) / median(denominator) of values that were not measured in pairs.

    Raises ValueError if either is empty.
    """
    if not len(numerator) or not len(denominator):
        raise ValueError("no values to take a median of")
    fewer = min(len(numerator), len(denominator))
    draw = np.random.default_rng(seed)
    drawn = _resampled(numerator, draw) / _resampled(denominator, draw)
    low, high = np.quantile(drawn, _tails(fewer))
    middle = float(np.median(numerator) / np.median(denominator))
    return Interval(n=fewer, median=middle, low=float(low), high=float(high))


def paired(reference: Mapping[int, float], row: Mapping[int, float]) -> list[float]:
    """How many times as fast as its reference a row is, for each turn that both ran (times by the
    turn's number): what disturbs the machine for minutes disturbs both, and cancels out."""
    return [reference[turn] / row[turn] for turn in sorted(reference.keys() & row.keys())]


def verdict(ratio: Interval, *, margin: float = MARGIN) -> Verdict:
    """What an interval of a speed ratio allows to say, by three zones.

    The whole interval must lie in one: beyond 1 + margin is `faster`, below 1 / (1 + margin) is
    `slower`, between them is `equal`. An interval that reaches into two decides nothing.
    """
    upper, lower = 1 + margin, 1 / (1 + margin)
    if ratio.n < FEWEST_TURNS:
        return "inconclusive"
    if ratio.low > upper:
        return "faster"
    if ratio.high < lower:
        return "slower"
    return "equal" if ratio.low >= lower and ratio.high <= upper else "inconclusive"


def percentile(samples: Sequence[float], which: int) -> float | None:
    """The 50th, 90th, 95th or 99th percentile, linear between samples; None with too few."""
    if len(samples) < NEEDED.get(which, 1):
        return None
    return float(np.percentile(samples, which))


def drift(probes: Sequence[Probe]) -> float | None:
    """How much the machine itself changed: 0.03 is 3 %; None without probes.

    The larger of two medians, so that one disturbed probe is not held against a row: the change
    within a turn, and the change from the first half of the probes to the second.
    """
    if not probes:
        return None
    within = np.median([_change(probe.before, probe.after) for probe in probes])
    series = [rates for probe in probes for rates in (probe.before, probe.after)]
    half = len(series) // 2
    return float(max(within, _change(typical(series[:half]), typical(series[half:]))))


def typical(rates: Sequence[Rates]) -> Rates:
    """The median of each figure. Raises ValueError for no rates."""
    if not rates:
        raise ValueError("no rates to take a median of")
    return Rates(
        gflops=float(np.median([each.gflops for each in rates])),
        gbps=float(np.median([each.gbps for each in rates])),
    )


def _change(before: Rates, after: Rates) -> float:
    """The larger relative change of the two figures."""
    return max(abs(after.gflops / before.gflops - 1), abs(after.gbps / before.gbps - 1))


def _resampled(values: Sequence[float], draw: np.random.Generator) -> np.ndarray:
    """Medians of resamples: float (RESAMPLES,)."""
    array = np.asarray(values, dtype=np.float64)
    chosen = draw.integers(0, len(array), size=(RESAMPLES, len(array)))
    return np.median(array[chosen], axis=1)


def _tails(n: int) -> tuple[float, float]:
    """The quantiles of the bootstrap's medians that bound an expanded 95 % interval."""
    if n < FEWEST_TURNS:
        return 0.0, 1.0
    tail = NormalDist().cdf(-math.sqrt(n / (n - 1)) * _student(n - 1))
    return tail, 1 - tail


def _student(freedom: int) -> float:
    """Student's t that 2.5 % exceed, by the first terms of its expansion about the normal's z
    (Abramowitz and Stegun, 26.7.5); within 0.3 % from 4 degrees of freedom on."""
    z = NormalDist().inv_cdf(0.975)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
