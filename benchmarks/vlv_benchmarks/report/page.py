"""`report.html`: one file, nothing fetched, no script."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from vlv_benchmarks.record import Record
from vlv_benchmarks.report import svg
from vlv_benchmarks.report.chapter import Chapter, chapters, of_chapter
from vlv_benchmarks.report.markdown import QUICK
from vlv_benchmarks.report.plots import Key, Plot, plots
from vlv_benchmarks.report.section import Section, Table
from vlv_benchmarks.report.setting import closing
from vlv_benchmarks.turn import Turn

STYLE = Path(__file__).with_name("style.css")
PLOTS_AFTER = "What bounds it"
"""title of the section that a case's figures follow"""


def page(record: Record, turns: Sequence[Turn]) -> str:
    """The whole file; turns are the raw samples, for the distributions."""
    body = "\n".join(_body(record, turns))
    title = escape(f"vlv-bench {record.run.id}")
    style = STYLE.read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{title}</title>\n<link rel="icon" href="data:,">\n<style>\n{style}</style>\n'
        f"</head>\n<body><main>\n{body}\n</main></body>\n</html>\n"
    )


def _body(record: Record, turns: Sequence[Turn]) -> Iterator[str]:
    run, after, cases = record.run, closing(record), chapters(record)
    dirty = " + changes" if run.git_dirty else ""
    yield f"<h1>Benchmark {escape(run.id)}</h1>"
    yield (
        f'<p class="soft">{escape(record.env.cpu_model)}{", " * bool(record.env.gpu)}'
        f"{escape(record.env.gpu or '')} · {escape(run.started)} · commit "
        f"{escape(run.git_commit[:12] + dirty)}</p>"
    )
    if run.quick:
        yield f'<p class="warn"><b>{QUICK}</b></p>'
    yield _contents([*(each.title for each in cases), *(each.title for each in after)])
    for chapter in cases:
        yield _heading(chapter.title)
        yield from _chapter(chapter, record, turns)
    for section in after:
        yield _heading(section.title)
        yield from _section(section)


def _chapter(chapter: Chapter, record: Record, turns: Sequence[Turn]) -> Iterator[str]:
    for section in of_chapter(chapter, record):
        yield f"<h3>{escape(section.title)}</h3>"
        yield from _section(section)
        if section.title == PLOTS_AFTER:
            yield from _plots(plots(chapter, turns, record.ceiling))


def _plots(found: Sequence[Plot]) -> Iterator[str]:
    """Those with something to draw, and why the others are not there."""
    drawn = "\n".join(_figure(plot) for plot in found if plot.drawing)
    if drawn:
        yield f'<div class="plots">\n{drawn}\n</div>'
    for plot in found:
        if not plot.drawing:
            yield f'<p class="absent">Not drawn: {escape(plot.title)}. {escape(plot.absent)}</p>'


def _contents(titles: Sequence[str]) -> str:
    links = (f'<a href="#{_anchor(title)}">{escape(title)}</a>' for title in titles)
    return f"<nav>{' '.join(links)}</nav>"


def _heading(title: str) -> str:
    return f'<h2 id="{_anchor(title)}">{escape(title)}</h2>'


def _anchor(title: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in title.lower())


def _section(section: Section) -> Iterator[str]:
    yield from (f"<p>{escape(said)}</p>" for said in section.said)
    if section.table:
        yield _table(section.table)
    if section.points:
        pairs = (f"<dt>{escape(n)}</dt><dd>{_words(said)}</dd>" for n, said in section.points)
        yield f"<dl>{''.join(pairs)}</dl>"


def _words(said: str) -> str:
    """A sentence, set as code where backticks enclose all of it."""
    if len(said) > 2 and said[0] == said[-1] == "`":
        return f"<code>{escape(said[1:-1])}</code>"
    return escape(said)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.head)
    lines = "\n".join(f"<tr>{_cells(line, len(table.head))}</tr>" for line in table.lines)
    return f'<div class="scroll"><table>\n<tr>{head}</tr>\n{lines}\n</table></div>'


def _cells(line: Sequence[str], width: int) -> str:
    if len(line) == width:
        return "".join(f"<td{_tone(cell)}>{escape(cell)}</td>" for cell in line)
    *before, last = line
    plain = "".join(f"<td>{escape(cell)}</td>" for cell in before)
    return f'{plain}<td class="span" colspan="{width - len(before)}">{escape(last)}</td>'


def _tone(cell: str) -> str:
    """Good and bad news stand out."""
    if cell == "passed" or cell.endswith(" faster"):
        return ' class="good"'
    return ' class="bad"' if cell == "failed" or cell.endswith(" slower") else ""


def _figure(plot: Plot) -> str:
    keys = "".join(f"<li>{_swatch(key)}{escape(key.words)}</li>" for key in plot.legend)
    legend = f'\n<ul class="legend">{keys}</ul>' if keys else ""
    return f"<figure><figcaption>{escape(plot.title)}</figcaption>\n{plot.drawing}{legend}</figure>"


def _swatch(key: Key) -> str:
    if key.shape is None:
        drawn = f'<rect class="{key.kind}" x="1" y="1" width="14" height="14" rx="3"/>'
    else:
        drawn = svg.mark(8, 8, shape=key.shape, kind=key.kind, said="")
    return f'<svg viewBox="0 0 16 16" aria-hidden="true">{drawn}</svg>'
