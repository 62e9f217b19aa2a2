"""From raw samples to the record's figures; `verify` runs the same again."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from statistics import median

from vlv_benchmarks.record import (
    Ceiling,
    Latency,
    Measure,
    Ratio,
    Result,
    Row,
    Throughput,
    reference,
)
from vlv_benchmarks.roofline import bounds
from vlv_benchmarks.statistics import MOST_DRIFT, drift, interval, paired, percentile, verdict
from vlv_benchmarks.turn import TOTAL, Fact, Quality, Turn


def summarise(
    rows: Sequence[Row],
    turns: Sequence[Turn],
    *,
    refused: Mapping[str, str],
    ceiling: Mapping[str, Ceiling],
    seed: int,
) -> tuple[Result, ...]:
    """One result for each row of the plan, in its order.

    refused: key of a row that cannot run -> why, in a sentence; a row with turns did run
    ceiling: by device
    seed: of the bootstrap
    """
    by_row = {row.key: [turn for turn in turns if turn.row == row.key] for row in rows}
    results = []
    for row in rows:
        against = reference(rows, row)
        done = _result(
            row, by_row[row.key], refused.get(row.key, ""), ceiling.get(row.device), seed
        )
        if done.timed and against is not None:
            done = _with_ratio(done, by_row[row.key], against, by_row[against.key], seed)
        results.append(done)
    return tuple(results)


def _result(
    row: Row, turns: Sequence[Turn], refusal: str, ceiling: Ceiling | None, seed: int
) -> Result:
    if not turns:
        return Result(row=row, status="not run", reason=refusal or "no turn has ended yet")
    error = next((turn.error for turn in turns if turn.error), None)
    if error:
        return Result(row=row, status="failed", reason=error, turns=len(turns))
    quality = _quality(turns)
    if quality.parity == "failed":
        reason = f"parity: {quality.reason or 'not what the reference says'}"
        return Result(row=row, status="failed", reason=reason, turns=len(turns), quality=quality)
    moved = drift([turn.probe for turn in turns if turn.probe])
    unstable = moved is not None and moved > MOST_DRIFT
    peaks = [turn.peak_memory_mb for turn in turns if turn.peak_memory_mb is not None]
    return Result(
        row=row,
        status="unstable" if unstable else "ok",
        reason=f"the probe drifted by {moved:.1%}, allowed {MOST_DRIFT:.0%}" if unstable else "",
        turns=len(turns),
        n=sum(len(turn.stages[TOTAL]) for turn in turns),
        discarded=sum(len(turn.discarded.get(TOTAL, ())) for turn in turns),
        drift=moved,
        latency_ms=_latencies(turns, seed),
        throughput=Throughput(
            images_per_s=_per_second(turns, "images"), tokens_per_s=_per_second(turns, "tokens")
        ),
        measures=_measures(turns, seed),
        memory_mb=max(peaks, default=None),
        roofline=bounds(turns, ceiling),
        quality=quality,
        facts=_facts(turns),
        output_sha256=tuple(sorted({turn.output_sha256 for turn in turns if turn.output_sha256})),
    )


def _quality(turns: Sequence[Turn]) -> Quality:
    """The worst turn's: one failure fails the row. A turn that judged nothing says nothing, for
    where judging is slow a case may do so in its first turn alone."""
    order = ("failed", "passed", "none")
    return min((turn.quality for turn in turns), key=lambda each: order.index(each.parity))


def _latencies(turns: Sequence[Turn], seed: int) -> dict[str, Latency]:
    """By stage, for the stages that every turn has."""
    stages = [stage for stage in turns[0].stages if all(turn.stages.get(stage) for turn in turns)]
    return {stage: _latency([turn.stages[stage] for turn in turns], seed) for stage in stages}


def _latency(samples: Sequence[Sequence[float]], seed: int) -> Latency:
    """samples: of a stage, by turn"""
    medians = interval([median(each) for each in samples], seed=seed)
    together = list(chain.from_iterable(samples))
    return Latency(
        n=len(together),
        median=medians.median,
        low=medians.low,
        high=medians.high,
        p50=median(together),
        p90=percentile(together, 90),
        p95=percentile(together, 95),
        p99=percentile(together, 99),
        mean=sum(together) / len(together),
    )


def _per_second(turns: Sequence[Turn], what: str) -> float | None:
    rates = [turn.counts[what] / turn.seconds for turn in turns if what in turn.counts]
    return median(rates) if len(rates) == len(turns) else None


def _measures(turns: Sequence[Turn], seed: int) -> dict[str, Measure]:
    """Of figures that every turn has."""
    found = {}
    for name in turns[0].measures:
        if all(name in turn.measures for turn in turns):
            of = interval([turn.measures[name] for turn in turns], seed=seed)
            found[name] = Measure(median=of.median, low=of.low, high=of.high)
    return found


def _facts(turns: Sequence[Turn]) -> dict[str, Fact]:
    """What all turns agree on; where they do not, the values stand side by side."""
    names = dict.fromkeys(name for turn in turns for name in turn.facts)
    found: dict[str, Fact] = {}
    for name in names:
        values = list(dict.fromkeys(turn.facts.get(name, "absent") for turn in turns))
        found[name] = values[0] if len(values) == 1 else f"varies: {', '.join(map(str, values))}"
    return found


def _with_ratio(
    done: Result, turns: Sequence[Turn], against: Row, others: Sequence[Turn], seed: int
) -> Result:
    """With its ratio, if the reference said the right things too."""
    wrong = any(turn.error or turn.quality.parity == "failed" for turn in others)
    pairs = [] if wrong else paired(_by_turn(others), _by_turn(turns))
    if not pairs:
        return done
    found = interval(pairs, seed=seed)
    ratio = Ratio(
        to=against.key,
        pairs=found.n,
        median=found.median,
        low=found.low,
        high=found.high,
        verdict=verdict(found),
    )
    return replace(done, ratio=ratio)


def _by_turn(turns: Sequence[Turn]) -> dict[int, float]:
    return {turn.turn: median(turn.stages[TOTAL]) for turn in turns}
