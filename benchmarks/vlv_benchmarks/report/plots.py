"""The figures of a case. Each says why it is absent where there is nothing to draw."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vlv_benchmarks.record import Bound, Ceiling, Result
from vlv_benchmarks.report import svg
from vlv_benchmarks.report.chapter import Chapter, swept
from vlv_benchmarks.report.svg import BOTTOM, LEFT, RIGHT, TOP, Scale
from vlv_benchmarks.text import figure, names, works
from vlv_benchmarks.turn import TOTAL, Turn

COLOURS = 12
MOST_POINTS = 300
NOTE = (26, 14)
"""pixels between two points' words, across and down, that keep them apart"""
ROOM = 170
"""pixels that a roof's name needs"""


@dataclass(frozen=True, kw_only=True)
class Key:
    """An entry of a legend."""

    kind: str
    """class of its swatch"""
    words: str
    shape: int | None = None
    """of a point; None: a colour"""


@dataclass(frozen=True, kw_only=True)
class Plot:
    title: str
    drawing: str = ""
    """an SVG element; empty where there is nothing to draw"""
    legend: tuple[Key, ...] = ()
    absent: str = ""
    """why there is nothing"""


def plots(chapter: Chapter, turns: Sequence[Turn], ceiling: Mapping[str, Ceiling]) -> list[Plot]:
    """All figures of a case, in the order of the page."""
    return [
        *(distribution(each, turns) for each in parts(chapter)),
        *(roofline(each, ceiling) for each in parts(chapter)),
        stages(chapter),
        memory(chapter),
        sweep(chapter),
    ]


def parts(chapter: Chapter) -> Iterator[Chapter]:
    """A chapter for each work that rows were compared in: a figure of all would be a thicket."""
    for group, words in works([each.row for each in chapter.results]).items():
        mine = tuple(each for each in chapter.results if each.row.group == group)
        called = names([each.row for each in mine])
        yield replace(chapter, part=words, results=mine, names=called)


def distribution(chapter: Chapter, turns: Sequence[Turn]) -> Plot:
    """Of all calls, the share that took no longer than x: the empirical distribution function."""
    title = _titled("Latency: share of calls that took no longer", chapter)
    samples = {
        each.row.key: sorted(ms for turn in turns if turn.row == each.row.key
                             for ms in turn.stages.get(TOTAL, ()))
        for each in chapter.timed
    }  # fmt: skip
    if not any(samples.values()):
        return Plot(title=title, absent="No row has times.")
    every = [ms for each in samples.values() for ms in each]
    x = svg.fitted(every, start=LEFT, end=RIGHT, log=max(every) > 5 * min(every))
    y = Scale(low=0, high=1, start=BOTTOM, end=TOP)
    drawn = svg.axes(x, y, across="milliseconds of a call", up="share of calls")
    for result in chapter.timed:
        steps = [(x(ms), y(share)) for ms, share in _steps(samples[result.row.key])]
        drawn.append(svg.line(steps, kind=f"curve {_stroke(chapter, result)}"))
    return Plot(title=title, drawing=svg.drawing(drawn, said=title), legend=_rows(chapter))


def stages(chapter: Chapter) -> Plot:
    """Bars of a call's mean, split by stage; what no stage claims is drawn grey."""
    title = "Where a call's time goes"
    split = [each for each in chapter.timed if len(each.latency_ms) > 1]
    if not split:
        return Plot(title=title, absent="No row says how its time splits into stages.")
    found = list(dict.fromkeys(s for each in split for s in each.latency_ms if s != TOTAL))
    bars = [
        Bar(
            label=chapter.name(each),
            pieces=tuple(_pieces(each, found)),
            said=f"{figure(each.latency_ms[TOTAL].mean)} ms",
        )
        for each in split
    ]
    rest = any(kind == "rest" for each in bars for kind, _, _ in each.pieces)
    legend = [Key(kind=f"fill{i % COLOURS}", words=stage) for i, stage in enumerate(found)]
    legend += [Key(kind="rest", words="rest")] if rest else []
    return Plot(title=title, drawing=_bars(bars, unit="ms", said=title), legend=tuple(legend))


def memory(chapter: Chapter) -> Plot:
    title = "Peak memory of a process"
    known = [each for each in chapter.timed if each.memory_mb is not None]
    if not known:
        return Plot(title=title, absent="No row says how much memory it took.")
    bars = [
        Bar(
            label=chapter.name(each),
            pieces=((_fill(chapter, each), each.memory_mb or 0.0, ""),),
            said=f"{figure(each.memory_mb)} MB",
        )
        for each in known
    ]
    return Plot(title=title, drawing=_bars(bars, unit="MB", said=title))


def sweep(chapter: Chapter) -> Plot:
    """Throughput against latency, a line for each backend, a point for each batch."""
    title = "Throughput against latency, by batch"
    series = swept(chapter)
    if not series:
        return Plot(title=title, absent="No row was run at several batch sizes.")
    every = [_at(each) for results in series.values() for each in results]
    x = svg.fitted([ms for ms, _ in every], start=LEFT, end=RIGHT, log=True)
    y = svg.fitted([rate for _, rate in every], start=BOTTOM, end=TOP, log=True)
    drawn = svg.axes(x, y, across="p50 of a call, milliseconds", up="images/s")
    legend: list[Key] = []
    taken: list[tuple[float, float]] = []
    for label, results in series.items():
        fill = _fill(chapter, results[0])
        at = [(x(ms), y(rate)) for ms, rate in map(_at, results)]
        drawn.append(svg.line(at, kind=f"curve {_stroke(chapter, results[0])}"))
        for each, (across, up) in zip(results, at, strict=True):
            said = f"{label}, batch {each.row.batch}"
            drawn.append(svg.mark(across, up, shape=0, kind=fill, said=said))
            drawn += _note(across, up, str(each.row.batch), taken)
        legend.append(Key(kind=fill, words=label))
    return Plot(title=title, drawing=svg.drawing(drawn, said=title), legend=tuple(legend))


def roofline(chapter: Chapter, ceiling: Mapping[str, Ceiling]) -> Plot:
    """Rates reached against operations per byte, below the roofs of the machine."""
    title = _titled("Roofline", chapter)
    points = [
        (result, stage, bound)
        for result in chapter.timed
        for stage, bound in result.roofline.items()
        if (stage != TOTAL or len(result.roofline) == 1) and bound.operations and bound.bytes
    ]
    if not points:
        return Plot(title=title, absent="No row states its operations and bytes.")
    roofs = list(_roofs(points, ceiling))
    at = [(bound.operations / bound.bytes, _rate(bound)) for *_, bound in points]
    ridges = [rate / gbps for _, rate, gbps in roofs]
    x = svg.fitted([*(a for a, _ in at), *ridges], start=LEFT, end=RIGHT, log=True)
    ends = [min(rate, edge * gbps) for _, rate, gbps in roofs for edge in (x.high, min(at)[0])]
    y = svg.fitted([*(b for _, b in at), *ends], start=BOTTOM, end=TOP, log=True)
    drawn = [*svg.axes(x, y, across="operations per byte", up="GFLOP/s"), *_roof_lines(roofs, x, y)]
    found = list(dict.fromkeys(stage for _, stage, _ in points))
    for (result, stage, _), (across, up) in zip(points, at, strict=True):
        said = f"{chapter.name(result)}, {stage}: {figure(up)} GFLOP/s"
        kind = f"point {_fill(chapter, result)}"
        drawn.append(svg.mark(x(across), y(up), shape=found.index(stage), kind=kind, said=said))
    shown = [Key(kind="ink", words=stage, shape=i) for i, stage in enumerate(found)]
    rows = {result.row.key: result for result, *_ in points}
    shown += [Key(kind=_fill(chapter, each), words=chapter.name(each)) for each in rows.values()]
    return Plot(title=title, drawing=svg.drawing(drawn, said=title), legend=tuple(shown))


@dataclass(frozen=True, kw_only=True)
class Bar:
    label: str
    pieces: tuple[tuple[str, float, str], ...]
    """class, length, and what is said of it"""
    said: str
    """at its end"""


def _bars(bars: Sequence[Bar], *, unit: str, said: str) -> str:
    """Horizontal bars, each below its label."""
    longest = max(sum(length for _, length, _ in each.pieces) for each in bars)
    x = Scale(low=0, high=longest, start=8, end=svg.WIDTH - 96)
    parts = []
    for place, each in enumerate(bars):
        y, along = 16 + place * 42, 0.0
        parts.append(svg.text(8, y, each.label, kind="label"))
        for kind, length, words in each.pieces:
            width = x(along + length) - x(along)
            full = f"{words}: {figure(length)} {unit}" if words else f"{figure(length)} {unit}"
            parts.append(svg.bar(x(along), y + 6, width, 17, kind=kind, said=full))
            along += length
        parts.append(svg.text(x(along) + 7, y + 19, each.said, kind="value"))
    return svg.drawing(parts, said=said, height=16 + len(bars) * 42)


def _pieces(result: Result, found: Sequence[str]) -> Iterable[tuple[str, float, str]]:
    taken = 0.0
    for place, stage in enumerate(found):
        if stage in result.latency_ms:
            mean = result.latency_ms[stage].mean
            taken += mean
            yield f"fill{place % COLOURS}", mean, stage
    rest = result.latency_ms[TOTAL].mean - taken
    if rest > 0.005 * result.latency_ms[TOTAL].mean:
        yield "rest", rest, "rest"


def _steps(samples: Sequence[float]) -> Iterable[tuple[float, float]]:
    """The corners of a distribution function, thinned to what a screen shows."""
    n, share = len(samples), 0.0
    stride = max(1, n // MOST_POINTS)
    for i in sorted({*range(0, n, stride), n - 1}):
        yield samples[i], share
        share = (i + 1) / n
        yield samples[i], share


def _note(x: float, y: float, words: str, taken: list[tuple[float, float]]) -> list[str]:
    """Words above a point, or below it; none where others stand already, which `taken` collects."""
    for beside in (y - 9, y + 19):
        if not any(abs(x - a) < NOTE[0] and abs(beside - b) < NOTE[1] for a, b in taken):
            taken.append((x, beside))
            return [svg.text(x, beside, words, kind="note middle")]
    return []


def _at(result: Result) -> tuple[float, float]:
    return result.latency_ms[TOTAL].p50, result.throughput.images_per_s or 0.0


def _rate(bound: Bound) -> float:
    """GFLOP/s reached."""
    return bound.operations * bound.share / bound.t_bound_ms / 1e6


def _roofs(
    points: Sequence[tuple[Result, str, Bound]], ceiling: Mapping[str, Ceiling]
) -> Iterable[tuple[str, float, float]]:
    """Name, GFLOP/s and GB/s of the roofs that points stand below, each once."""
    kinds = dict.fromkeys((each.row.device, bound.arithmetic) for each, _, bound in points)
    several = len({device for device, _ in kinds}) > 1
    for device, arithmetic in kinds:
        name = f"{device} {arithmetic}" if several else arithmetic
        yield name, ceiling[device].gflops[arithmetic], ceiling[device].gbps


def _roof_lines(roofs: Iterable[tuple[str, float, float]], x: Scale, y: Scale) -> Iterable[str]:
    for name, rate, gbps in roofs:
        start = max(x.low, y.low / gbps)
        ridge = rate / gbps
        path = [(x(start), y(start * gbps)), (x(ridge), y(rate)), (RIGHT, y(rate))]
        yield svg.line(path, kind="roof")
        said = f"{name} {figure(rate)} GFLOP/s"
        if x(ridge) > LEFT + ROOM:
            # above the ridge and left of it nothing reaches
            yield svg.text(x(ridge) - 4, y(rate) - 6, said, kind="note end")
        else:
            yield svg.text(RIGHT - 4, y(rate) - 6, said, kind="note end")


def _titled(words: str, chapter: Chapter) -> str:
    return f"{words}: {chapter.part}" if chapter.part else words


def _fill(chapter: Chapter, result: Result) -> str:
    """The class of a contestant's colour: the same in all figures of its case."""
    return f"fill{chapter.labels.index(result.row.label) % COLOURS}"


def _stroke(chapter: Chapter, result: Result) -> str:
    """The class of a row's line: peers are dashed."""
    return _fill(chapter, result).replace("fill", "line") + (" peer" if result.row.peer else "")


def _rows(chapter: Chapter) -> tuple[Key, ...]:
    """The legend of all rows that have times."""
    return tuple(
        Key(kind=_fill(chapter, each), words=chapter.name(each) + " (dashed)" * each.row.peer)
        for each in chapter.timed
    )
