"""Intervals, verdicts, percentiles and drift, each on samples whose right answer is known."""

import numpy as np
import pytest

from vlv_benchmarks.statistics import (
    FEWEST_TURNS,
    NEEDED,
    Interval,
    _student,
    drift,
    interval,
    paired,
    percentile,
    ratio_of_medians,
    typical,
    verdict,
)
from vlv_benchmarks.turn import Probe, Rates

TRIALS = 300
STUDENT = {4: 2.776, 5: 2.571, 6: 2.447, 9: 2.262, 19: 2.093, 99: 1.984}
"""two-sided 95 % of Student's t, from a printed table"""


def between(low: float, middle: float, high: float, n: int = 5) -> Interval:
    return Interval(n=n, median=middle, low=low, high=high)


@pytest.mark.parametrize("n", [5, 6, 7, 10, 20])
@pytest.mark.parametrize("shape", ["normal", "skewed", "heavy-tailed"])
def test_the_interval_covers_the_true_median(n: int, shape: str) -> None:
    draw = np.random.default_rng(n)
    true = 10.0
    samples = {
        "normal": true + draw.normal(size=(TRIALS, n)),
        "skewed": true * np.exp(0.4 * draw.normal(size=(TRIALS, n))),
        "heavy-tailed": true + draw.standard_t(3, size=(TRIALS, n)),
    }[shape]
    found = [interval(values, seed=i) for i, values in enumerate(samples)]
    covered = np.mean([each.low <= true <= each.high for each in found])
    # nominal 95 %; the standard error of this estimate is 1.3 %
    assert covered >= 0.91


def test_at_seven_turns_the_plain_percentile_interval_covers_too_little() -> None:
    """Why the expanded one is used."""
    draw = np.random.default_rng(7)
    values = draw.normal(size=(TRIALS, 7))
    medians = np.median(values[:, draw.integers(0, 7, size=(500, 7))], axis=2)
    low, high = np.quantile(medians, [0.025, 0.975], axis=1)
    plain = np.mean((low <= 0) & (high >= 0))
    ours = np.mean([each.low <= 0 <= each.high for each in (interval(v, seed=1) for v in values)])
    assert plain < 0.92
    assert ours > 0.95


def test_more_turns_narrow_the_interval() -> None:
    draw = np.random.default_rng(0)
    widths = []
    for n in (5, 20, 80):
        found = [interval(draw.normal(size=n), seed=0) for _ in range(50)]
        widths.append(np.mean([each.high - each.low for each in found]))
    assert widths[0] > 1.5 * widths[1] > 2 * widths[2]


def test_an_interval_is_the_same_each_time() -> None:
    values = np.random.default_rng(3).normal(size=9)
    assert interval(values, seed=5) == interval(values, seed=5)
    assert interval([4.0], seed=0) == between(4.0, 4.0, 4.0, n=1)


def test_too_few_turns_give_their_range() -> None:
    assert interval([3.0, 1.0, 2.0], seed=0) == between(1.0, 2.0, 3.0, n=3)


def test_nothing_has_no_median() -> None:
    with pytest.raises(ValueError, match="no values to take a median of"):
        interval([], seed=0)
    with pytest.raises(ValueError, match="no values to take a median of"):
        ratio_of_medians([1.0], [], seed=0)
    with pytest.raises(ValueError, match="no rates to take a median of"):
        typical([])


@pytest.mark.parametrize(("freedom", "table"), STUDENT.items())
def test_student_is_what_tables_say(freedom: int, table: float) -> None:
    assert _student(freedom) == pytest.approx(table, rel=0.003)


def turns_of(draw: np.random.Generator, ms: float, weather: np.ndarray) -> dict[int, float]:
    """Medians of turns on a machine that slows everybody down alike by its weather."""
    luck = draw.normal(1, 0.005, size=len(weather))
    return dict(enumerate(ms * weather * luck))


def verdicts(true_ratio: float, *, turns: int = 5, trials: int = 200) -> dict[str, float]:
    """Share of each verdict where one row is `true_ratio` times as fast as its reference, on a
    machine whose speed wanders by 20 % from turn to turn."""
    draw = np.random.default_rng(11)
    said = []
    for seed in range(trials):
        weather = draw.uniform(1.0, 1.2, size=turns)
        reference = turns_of(draw, 100.0, weather)
        row = turns_of(draw, 100.0 / true_ratio, weather)
        said.append(verdict(interval(paired(reference, row), seed=seed)))
    return {each: said.count(each) / trials for each in dict.fromkeys(said)}


def test_a_planted_slowdown_of_five_percent_is_found() -> None:
    found = verdicts(1 / 1.05)
    assert found["slower"] > 0.9
    assert "faster" not in found


def test_a_planted_gain_of_five_percent_is_found() -> None:
    found = verdicts(1.05)
    assert found["faster"] > 0.9
    assert "slower" not in found


def test_noise_is_not_called_a_difference() -> None:
    found = verdicts(1.0)
    assert found.get("slower", 0) + found.get("faster", 0) == 0
    assert found["equal"] > 0.8


def test_a_difference_at_the_margin_is_left_open() -> None:
    found = verdicts(1.02)
    assert found["inconclusive"] > 0.7
    assert found.get("slower", 0) == 0


def test_without_pairs_the_weather_hides_what_pairs_find() -> None:
    """Why rows are interleaved: the same 5 %, compared as two piles, is not found."""
    draw = np.random.default_rng(11)
    found = 0
    for seed in range(100):
        weather = draw.uniform(1.0, 1.2, size=5)
        reference, row = (turns_of(draw, ms, weather) for ms in (100.0, 105.0))
        piles = ratio_of_medians([*reference.values()], [*row.values()], seed=seed)
        found += verdict(piles) == "slower"
    assert found < 30


def test_ratios_of_two_piles_cover_the_truth() -> None:
    draw = np.random.default_rng(2)
    covered = 0
    for seed in range(TRIALS):
        before, after = draw.normal(100, 3, size=6), draw.normal(80, 2, size=6)
        found = ratio_of_medians(before, after, seed=seed)
        covered += found.low <= 1.25 <= found.high
    assert covered / TRIALS >= 0.92


@pytest.mark.parametrize(
    ("ratio", "right"),
    [
        (between(1.03, 1.05, 1.08), "faster"),
        (between(0.93, 0.95, 0.97), "slower"),
        (between(0.99, 1.0, 1.01), "equal"),
        (between(1.0, 1.01, 1.02), "equal"),
        (between(1.01, 1.04, 1.07), "inconclusive"),
        (between(0.97, 0.99, 1.0), "inconclusive"),
        (between(0.8, 1.0, 1.2), "inconclusive"),
        (between(2.0, 2.0, 2.0, n=FEWEST_TURNS - 1), "inconclusive"),
    ],
)
def test_the_three_zones(ratio: Interval, right: str) -> None:
    assert verdict(ratio) == right


def test_margins_are_symmetric_between_the_two() -> None:
    """Who is called faster when A is compared with B is called slower when B is with A."""
    opposite = {"faster": "slower", "slower": "faster"}
    for low, high in ((1.03, 1.1), (0.9, 0.97), (0.985, 1.015), (0.9, 1.1), (1.021, 1.03)):
        there = verdict(between(low, 1.0, high))
        back = verdict(between(1 / high, 1.0, 1 / low))
        assert back == opposite.get(there, there)


def test_a_wide_margin_calls_more_equal() -> None:
    assert verdict(between(1.1, 1.15, 1.19), margin=0.2) == "equal"
    assert verdict(between(1.1, 1.15, 1.19), margin=0.05) == "faster"


def test_only_turns_that_both_ran_are_paired() -> None:
    assert paired({0: 10.0, 1: 12.0, 2: 9.0}, {0: 5.0, 2: 3.0, 3: 1.0}) == [2.0, 3.0]
    assert paired({0: 1.0}, {1: 1.0}) == []


@pytest.mark.parametrize(("which", "needed"), [(90, 36), (95, 72), (99, 368)])
def test_percentiles_need_samples(which: int, needed: int) -> None:
    assert NEEDED[which] == needed
    assert percentile([*range(needed - 1)], which) is None
    assert percentile([*range(needed)], which) == pytest.approx((needed - 1) * which / 100)


def test_a_percentile_finds_the_planted_tail() -> None:
    samples = [10.0] * 394 + [50.0] * 6
    assert percentile(samples, 95) == 10.0
    assert percentile(samples, 99) == 50.0
    assert percentile([7.0], 50) == 7.0


def probes(*pairs: tuple[float, float], copy: float = 18.0) -> list[Probe]:
    """Probes of a matrix product's rates, before and after."""
    return [
        Probe(before=Rates(gflops=before, gbps=copy), after=Rates(gflops=after, gbps=copy))
        for before, after in pairs
    ]


def test_a_steady_machine_does_not_drift() -> None:
    assert drift(probes((100, 101), (101, 100), (99, 100))) == pytest.approx(0.01, abs=0.002)
    assert drift([]) is None


def test_a_change_within_each_turn_is_drift() -> None:
    assert drift(probes((100, 94), (100, 94), (100, 94))) == pytest.approx(0.06)


def test_one_disturbed_probe_is_not_held_against_a_row() -> None:
    found = drift(probes((100, 100), (100, 50), (100, 100), (100, 100), (100, 100)))
    assert found == pytest.approx(0.0)


def test_a_slow_decline_over_turns_is_drift() -> None:
    found = drift(probes(*((100 - 4 * i, 99 - 4 * i) for i in range(6))))
    assert found is not None
    assert 0.1 < found < 0.2


def test_a_drift_of_the_copy_alone_counts() -> None:
    half = probes((100, 100), (100, 100)) + probes((100, 100), (100, 100), copy=16.2)
    assert drift(half) == pytest.approx(0.1)
