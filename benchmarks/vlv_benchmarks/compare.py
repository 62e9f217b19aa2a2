"""Two runs of the same work on the same hardware: what became faster, what slower, what is unsure.

Times of two days are comparable only if the machine was: the probes decide. Where they differ, a
row is compared by its ratio to its group's reference, which was measured beside it both times.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from statistics import median
from typing import Literal

from vlv_benchmarks.record import Record, Result, Verdict
from vlv_benchmarks.statistics import (
    MARGIN,
    MOST_DRIFT,
    Interval,
    paired,
    ratio_of_medians,
    typical,
    verdict,
)
from vlv_benchmarks.turn import TOTAL, Turn
from vlv_core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Change:
    """What became of a row that both runs have."""

    key: str
    by: Literal["time", "ratio", "nothing"]
    """what was compared"""
    verdict: Verdict
    ratio: Interval | None = None
    """above 1: faster than before"""
    reason: str = ""
    """why nothing could be compared"""
    facts: tuple[str, ...] = ()
    """`graph_nodes 120 -> 134`: what should not vary, and did"""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    changes: tuple[Change, ...]
    software: tuple[str, ...]
    """`onnxruntime 1.31.1 -> 1.32.0`: how the environments differ, which may be the cause"""
    gone: tuple[str, ...]
    """keys of rows that only the older run has"""
    new: tuple[str, ...]


def compare(
    old: Record,
    old_turns: Sequence[Turn],
    new: Record,
    new_turns: Sequence[Turn],
    *,
    margin: float = MARGIN,
) -> Comparison:
    """Row by row, in the order of the newer run. Raises UsageError, naming the field, if hardware
    or work differ, and if no row is in both."""
    _check_same(old, new)
    before = {each.row.key: each for each in old.result}
    after = {each.row.key: each for each in new.result}
    shared = [key for key in after if key in before]
    if not shared:
        raise UsageError(
            f"no row is in both runs: the first has {_some(before)}; the second has {_some(after)}"
        )
    first, second = _grouped(old_turns), _grouped(new_turns)
    steady = _steady(old_turns, new_turns)
    changes = [
        _change(before[key], after[key], first, second, steady, new.run.seed, margin)
        for key in shared
    ]
    return Comparison(
        changes=tuple(changes),
        software=tuple(_software(old.env.libraries, new.env.libraries)),
        gone=tuple(key for key in before if key not in after),
        new=tuple(key for key in after if key not in before),
    )


def _check_same(old: Record, new: Record) -> None:
    for name, before, after in _must_agree(old, new):
        if before != after:
            raise UsageError(
                f"the runs differ in {name}: {before!r} and {after!r}",
                hint="only runs on the same hardware, of the same work, can be compared",
            )


def _must_agree(old: Record, new: Record) -> list[tuple[str, object, object]]:
    """Names of fields, and their values in both."""
    found: list[tuple[str, object, object]] = [("run.quick", old.run.quick, new.run.quick)]
    for field in ("cpu_model", "cpu_isa", "cpu_threads", "gpu"):
        found.append((f"env.{field}", getattr(old.env, field), getattr(new.env, field)))
    # what a kernel keeps for itself differs between two starts of the same machine
    gigabytes = [round(each.env.memory_mb / 1e3) for each in (old, new)]
    found.append(("env.memory_mb, in thousands", gigabytes[0], gigabytes[1]))
    for case in old.workload.keys() & new.workload.keys():
        before, after = old.workload[case], new.workload[case]
        for field in ("images", "images_sha256", "prompt", "output_tokens", "options"):
            name = f"workload.{case}.{field}"
            found.append((name, getattr(before, field), getattr(after, field)))
    for model in old.model.keys() & new.model.keys():
        pair = old.model[model].sha256, new.model[model].sha256
        found.append((f"model.{model}.sha256", *pair))
    return sorted(found, key=lambda each: each[0])


def _software(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name, "absent"), new.get(name, "absent")
        if was != now:
            yield f"{name} {was} -> {now}"


def _steady(old: Sequence[Turn], new: Sequence[Turn]) -> str:
    """Empty if the machine ran alike both times, else what the probes say."""
    probes = [[each.probe for each in turns if each.probe] for turns in (old, new)]
    if not all(probes):
        return "no probe says whether the machine ran alike"
    then, now = (typical([r for p in each for r in (p.before, p.after)]) for each in probes)
    for what in ("gflops", "gbps"):
        change = getattr(now, what) / getattr(then, what) - 1
        if abs(change) > MOST_DRIFT:
            return f"the machine itself changed: its probe's {what} by {change:+.1%}"
    return ""


def _change(
    before: Result,
    after: Result,
    first: Mapping[str, Mapping[int, float]],
    second: Mapping[str, Mapping[int, float]],
    unsteady: str,
    seed: int,
    margin: float,
) -> Change:
    key = after.row.key
    said = partial(Change, key=key, facts=tuple(_facts(before, after)))
    undecided = partial(said, by="nothing", verdict="inconclusive")
    for result, when in ((before, "before"), (after, "now")):
        if not result.timed:
            return undecided(reason=f"{when} {result.status}: {result.reason}")
    if not unsteady:
        found = ratio_of_medians([*first[key].values()], [*second[key].values()], seed=seed)
        return said(by="time", verdict=verdict(found, margin=margin), ratio=found)
    if before.ratio is None or after.ratio is None or before.ratio.to != after.ratio.to:
        return undecided(reason=f"{unsteady}, and the row has no reference in both runs")
    reference = before.ratio.to
    then, now = (paired(each[reference], each[key]) for each in (first, second))
    found = ratio_of_medians(now, then, seed=seed)
    return said(by="ratio", verdict=verdict(found, margin=margin), ratio=found)


def _facts(before: Result, after: Result) -> list[str]:
    names = [name for name in after.facts if name in before.facts]
    pairs = [(name, before.facts[name], after.facts[name]) for name in names]
    return [f"{name} {was} -> {now}" for name, was, now in pairs if was != now]


def _grouped(turns: Sequence[Turn]) -> dict[str, dict[int, float]]:
    """Row's key -> turn -> median milliseconds of a call."""
    timed = sorted((turn for turn in turns if turn.stages.get(TOTAL)), key=lambda each: each.row)
    return {
        key: {turn.turn: median(turn.stages[TOTAL]) for turn in group}
        for key, group in groupby(timed, key=lambda each: each.row)
    }


def _some(rows: Mapping[str, Result]) -> str:
    shown = ", ".join(list(rows)[:3])
    return f"{shown}, and {len(rows) - 3} more" if len(rows) > 3 else shown or "none"
