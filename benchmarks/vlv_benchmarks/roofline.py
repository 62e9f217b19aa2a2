"""The least time that the work of a stage can take on the machine as measured, and how near a row
came: the roofline model (Williams, Waterman, Patterson, 2009), by stage."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from vlv_benchmarks.record import Bound, BoundBy, Ceiling, Result
from vlv_benchmarks.text import percent
from vlv_benchmarks.turn import TOTAL, Turn, Work

NEAR = 0.8
"""share of the bound from which there is little left to win"""


def bounds(turns: Sequence[Turn], ceiling: Ceiling | None) -> dict[str, Bound]:
    """By stage, for stages whose least work is stated and whose arithmetic the ceiling knows.

    "total" is the sum of the stages' bounds, for stages run one after another; work that nobody
    stated adds nothing, so that the total stays a bound.
    """
    if ceiling is None or not turns:
        return {}
    known = [_known(turn, ceiling) for turn in turns]
    stages = [stage for stage in known[0] if all(stage in each for each in known)]
    found = {stage: _stage(stage, turns, known, ceiling) for stage in stages}
    if found and TOTAL not in found:
        found[TOTAL] = _total(found, turns)
    return found


def least_ms(work: Work, ceiling: Ceiling) -> tuple[float, BoundBy]:
    """max(operations / rate, bytes / bandwidth) in milliseconds, and which of the two it is."""
    compute = work.operations / (ceiling.gflops[work.arithmetic] * 1e6)
    memory = work.bytes / (ceiling.gbps * 1e6)
    return (compute, "compute") if compute >= memory else (memory, "memory")


def sentence(result: Result) -> str:
    """The bottleneck: which stage takes the time, what bounds it, how near it is, and what
    reaching the bound would win. A row without times has its reason."""
    if not result.timed:
        return f"{result.status}: {result.reason}"
    total = result.latency_ms[TOTAL].mean
    worst = _worst(result)
    spent = result.latency_ms[worst].mean
    opening = "" if worst == TOTAL else f"{worst} takes {percent(spent / total)} of the time, "
    bound = result.roofline.get(worst)
    if bound is None:
        return f"{opening}no bound is known: its least work is not stated"
    means = "arithmetic" if bound.bound == "compute" else "memory traffic"
    return f"{opening}bound by {means}, {_nearness(bound, spent, total)}"


def _nearness(bound: Bound, spent: float, total: float) -> str:
    if bound.share > 1:
        return (
            f"at {percent(bound.share)} of the measured ceiling: caches serve part of what it reads"
        )
    if bound.share >= NEAR:
        return f"at {percent(bound.share)} of what this machine can: little is left to win there"
    least = bound.share * spent
    return (
        f"at {percent(bound.share)} of what this machine can; at the bound a call is "
        f"{total / (total - spent + least):.2f}x as fast"
    )


def _worst(result: Result) -> str:
    """The stage with the most time above its bound; all of it where no bound is known."""
    stages = {name: each.mean for name, each in result.latency_ms.items() if name != TOTAL}
    over = {name: mean * (1 - _share(result.roofline.get(name))) for name, mean in stages.items()}
    return max(over, key=lambda name: over[name], default=TOTAL)


def _share(bound: Bound | None) -> float:
    return min(bound.share, 1.0) if bound else 0.0


def _known(turn: Turn, ceiling: Ceiling) -> dict[str, Work]:
    return {
        stage: work
        for stage, work in turn.work.items()
        if work.arithmetic in ceiling.gflops and stage in turn.stages
    }


def _stage(
    stage: str, turns: Sequence[Turn], known: Sequence[Mapping[str, Work]], ceiling: Ceiling
) -> Bound:
    works = [each[stage] for each in known]
    least = [least_ms(work, ceiling) for work in works]
    calls = [len(turn.stages[TOTAL]) for turn in turns]
    spent = [_spent(turn, stage) for turn in turns]
    return Bound(
        bound=least[0][1],
        arithmetic=works[0].arithmetic,
        operations=_each(calls, (work.operations for work in works)),
        bytes=_each(calls, (work.bytes for work in works)),
        t_bound_ms=_each(calls, (ms for ms, _ in least)),
        share=median(ms / of for (ms, _), of in zip(least, spent, strict=True)),
    )


def _spent(turn: Turn, stage: str) -> float:
    """Milliseconds of a turn in a stage; overlapping calls share the wall clock."""
    return turn.seconds * 1e3 if stage == TOTAL else sum(turn.stages[stage])


def _each(calls: Sequence[int], sums: Iterable[float]) -> float:
    """Of a call: the median over turns."""
    return median(total / n for total, n in zip(sums, calls, strict=True))


def _total(stages: Mapping[str, Bound], turns: Sequence[Turn]) -> Bound:
    heaviest = max(stages.values(), key=lambda bound: bound.t_bound_ms)
    least = sum(bound.t_bound_ms for bound in stages.values())
    each = median(turn.seconds * 1e3 / len(turn.stages[TOTAL]) for turn in turns)
    return Bound(
        bound=heaviest.bound,
        arithmetic=heaviest.arithmetic,
        operations=sum(bound.operations for bound in stages.values()),
        bytes=sum(bound.bytes for bound in stages.values()),
        t_bound_ms=least,
        share=least / each,
    )
