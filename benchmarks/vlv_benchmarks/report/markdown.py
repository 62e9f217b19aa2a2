"""`REPORT.md`."""

from collections.abc import Iterator, Sequence

from vlv_benchmarks.record import Record
from vlv_benchmarks.report.chapter import chapters, of_chapter
from vlv_benchmarks.report.section import Section, Table
from vlv_benchmarks.report.setting import closing

QUICK = "Quick run: too few samples, not for publication."


def markdown(record: Record) -> str:
    """The whole file."""
    return "\n".join(_lines(record)).rstrip("\n") + "\n"


def table(found: Table) -> Iterator[str]:
    """A table's lines; a cell that spans stands in the first column that it spans."""
    yield _line(found.head)
    yield "|" + "---|" * len(found.head)
    for line in found.lines:
        yield _line([*line, *[""] * (len(found.head) - len(line))])


def _lines(record: Record) -> Iterator[str]:
    yield f"# Benchmark {record.run.id}"
    yield ""
    if record.run.quick:
        yield f"**{QUICK}**"
        yield ""
    for chapter in chapters(record):
        yield f"## {chapter.title}"
        yield ""
        for section in of_chapter(chapter, record):
            yield from _section(section, "###")
    for section in closing(record):
        yield from _section(section, "##")


def _section(section: Section, level: str) -> Iterator[str]:
    yield f"{level} {section.title}"
    yield ""
    for said in section.said:
        yield said
        yield ""
    if section.table:
        yield from table(section.table)
        yield ""
    for name, said in section.points:
        yield f"- **{name}**: {said}"
    if section.points:
        yield ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
