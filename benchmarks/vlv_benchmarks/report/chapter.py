"""What a report says of a case; `markdown` and `page` only set it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from vlv_benchmarks.record import Record, Result, Row
from vlv_benchmarks.report.section import Section, Table
from vlv_benchmarks.roofline import sentence
from vlv_benchmarks.text import (
    NONE,
    exact,
    figure,
    names,
    percent,
    speed,
    tail,
    within,
)
from vlv_benchmarks.turn import TOTAL

EXPLAINED = (
    "Milliseconds are of a call; intervals hold 95 % of such measurements' medians; speed is "
    "against the row marked reference of the same batch, device and threads, turn by turn."
)


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """All rows of a case that run one model."""

    case: str
    model: str
    results: tuple[Result, ...]
    names: Mapping[str, str]
    """by key"""
    labels: tuple[str, ...]
    """of all rows of the case, which say whose colour is whose"""
    part: str = ""
    """what tells these rows apart from the case's others"""

    @property
    def title(self) -> str:
        return f"{self.case}: {self.model}"

    @property
    def timed(self) -> list[Result]:
        return [result for result in self.results if result.timed]

    def name(self, result: Result) -> str:
        return self.names[result.row.key]


def chapters(record: Record) -> list[Chapter]:
    """In the order of the plan."""
    kinds = dict.fromkeys((result.row.case, result.row.model) for result in record.result)
    found = []
    for case, model in kinds:
        mine = tuple(
            each for each in record.result if (each.row.case, each.row.model) == (case, model)
        )
        named = names([each.row for each in mine])
        labels = tuple(dict.fromkeys(each.row.label for each in mine))
        found.append(Chapter(case=case, model=model, results=mine, names=named, labels=labels))
    return found


def of_chapter(chapter: Chapter, record: Record) -> Iterator[Section]:
    """The sections of a case, those without anything to say left out."""
    yield headline(chapter, record)
    yield Section(
        title="What bounds it",
        points=tuple((chapter.name(each), f"{sentence(each)}.") for each in chapter.timed),
        said=() if chapter.timed else ("No row has times.",),
    )
    optional = (stages, measures, sweep, parity, facts)
    for section in (each(chapter) for each in optional):
        if section is not None:
            yield section


def headline(chapter: Chapter, record: Record) -> Section:
    """Every row, those without times with their reason."""
    head = ("", "median ms (95 %)", "p50", "p99", "images/s", "tokens/s", "peak MB", "parity",
            "of the bound", "speed (95 %)")  # fmt: skip
    work = record.workload.get(chapter.case)
    return Section(
        title="Rows",
        said=(*((work.summary,) if work else ()), EXPLAINED),
        table=Table(head=head, lines=tuple(_row(chapter, each) for each in chapter.results)),
    )


def _row(chapter: Chapter, result: Result) -> tuple[str, ...]:
    name = chapter.name(result) + (" †" if result.status == "unstable" else "")
    if not result.timed:
        return name, f"{result.status}: {result.reason}"
    total, bound = result.latency_ms[TOTAL], result.roofline.get(TOTAL)
    return (
        name,
        within(total.median, total.low, total.high),
        figure(total.p50),
        tail(total, total.p99),
        figure(result.throughput.images_per_s),
        figure(result.throughput.tokens_per_s),
        figure(result.memory_mb),
        result.quality.parity if result.quality.parity != "none" else NONE,
        percent(bound.share) if bound else NONE,
        _speed(chapter, result),
    )


def _speed(chapter: Chapter, result: Result) -> str:
    referred = {each.ratio.to for each in chapter.results if each.ratio}
    return "reference" if result.row.key in referred else speed(result.ratio)


def stages(chapter: Chapter) -> Section | None:
    """Milliseconds of a call by stage."""
    split = [each for each in chapter.timed if len(each.latency_ms) > 1]
    if not split:
        return None
    found = dict.fromkeys(stage for each in split for stage in each.latency_ms if stage != TOTAL)
    lines = [(chapter.name(each), *(_stage(each, stage) for stage in found)) for each in split]
    return Section(
        title="Stages",
        said=("Milliseconds of a call on average, and the share of the whole call.",),
        table=Table(head=("", *found), lines=tuple(lines)),
    )


def _stage(result: Result, stage: str) -> str:
    latency = result.latency_ms.get(stage)
    if latency is None:
        return NONE
    return f"{figure(latency.mean)} ({percent(latency.mean / result.latency_ms[TOTAL].mean)})"


def measures(chapter: Chapter) -> Section | None:
    """Figures that only this case has."""
    known = [each for each in chapter.timed if each.measures]
    if not known:
        return None
    found = dict.fromkeys(name for each in known for name in each.measures)
    lines = [(chapter.name(each), *(_measure(each, name) for name in found)) for each in known]
    return Section(
        title="Other figures",
        said=("Medians over turns, with 95 % intervals.",),
        table=Table(head=("", *found), lines=tuple(lines)),
    )


def _measure(result: Result, name: str) -> str:
    found = result.measures.get(name)
    return within(found.median, found.low, found.high) if found else NONE


def sweep(chapter: Chapter) -> Section | None:
    """Throughput and latency by batch, for rows that were run at several."""
    series = swept(chapter)
    if not series:
        return None
    lines = [
        (label, str(each.row.batch), figure(each.latency_ms[TOTAL].p50),
         figure(each.throughput.images_per_s), figure(each.memory_mb))
        for label, results in series.items() for each in results
    ]  # fmt: skip
    head = ("", "batch", "p50 ms", "images/s", "peak MB")
    return Section(title="Batches", table=Table(head=head, lines=tuple(lines)))


def swept(chapter: Chapter) -> dict[str, list[Result]]:
    """label -> its rows by batch, smallest first; only labels with several that count images."""
    counted = [each for each in chapter.timed if each.throughput.images_per_s is not None]
    found: dict[str, list[Result]] = {}
    for each in sorted(counted, key=lambda each: each.row.batch):
        found.setdefault(_any_batch(each.row).key, []).append(each)
    several = [results for results in found.values() if len(results) > 1]
    called = names([_any_batch(results[0].row) for results in several])
    return {called[_any_batch(results[0].row).key]: results for results in several}


def _any_batch(row: Row) -> Row:
    return replace(row, batch=1)


def parity(chapter: Chapter) -> Section | None:
    """What each row says, against what it should say."""
    judged = [each for each in chapter.results if each.quality.parity != "none"]
    if not judged:
        return None
    figures = dict.fromkeys(name for each in judged for name in each.quality.figures)
    lines = [
        (chapter.name(each), each.quality.parity,
         *(exact(each.quality.figures.get(name)) for name in figures), _outputs(each))
        for each in judged
    ]  # fmt: skip
    head = ("", "parity", *figures, "output")
    return Section(title="Parity", table=Table(head=head, lines=tuple(lines)))


def _outputs(result: Result) -> str:
    """Whether all turns wrote the same."""
    match result.output_sha256:
        case ():
            return NONE
        case (only,):
            return only[:12]
        case several:
            return f"{len(several)} different ones"


def facts(chapter: Chapter) -> Section | None:
    """What must not vary from run to run."""
    known = [each for each in chapter.results if each.facts]
    if not known:
        return None
    found = dict.fromkeys(name for each in known for name in each.facts)
    lines = [
        (chapter.name(each), *(exact(each.facts.get(name)) for name in found)) for each in known
    ]
    return Section(
        title="Counts that do not vary", table=Table(head=("", *found), lines=tuple(lines))
    )
