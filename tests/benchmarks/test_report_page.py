"""`report.html`: whole, self-contained, safe, with figures that stand where their values are."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.benchmarks import synthetic
from vlv_benchmarks.cli import app
from vlv_benchmarks.record import Record, Samples
from vlv_benchmarks.report import markdown, page, plots, svg
from vlv_benchmarks.report.chapter import chapters
from vlv_benchmarks.verify import mismatches
from vlv_core.console import run

ROWS, TURNS = synthetic.afternoon()
VOID = {"meta", "link", "br", "img", "rect", "circle", "polyline", "polygon"}


@pytest.fixture(scope="module")
def record() -> Record:
    return synthetic.record(ROWS, TURNS, Samples(turns=len(TURNS), sha256="0"))


@pytest.fixture(scope="module")
def html(record: Record) -> str:
    return page(record, TURNS)


class Reader(HTMLParser):
    """Checks that elements nest, and collects cells, ids and links."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID or (tag in {"rect", "circle", "polygon"} and not self._closed()):
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] in (["td"], ["th"]):
            self.cells[-1] += data

    def _closed(self) -> bool:
        return (self.get_starttag_text() or "").endswith("/>")


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


def test_elements_nest(html: str) -> None:
    assert html.startswith("<!doctype html>")
    assert len(read(html).cells) > 200


def test_nothing_is_fetched_and_nothing_runs(html: str) -> None:
    assert "://" not in html
    assert "<script" not in html
    assert "@import" not in html
    assert "url(" not in html
    sources = [attrs.get("src") or attrs.get("href") for _, attrs in read(html).found]
    assert all(each is None or each.startswith(("#", "data:,")) for each in sources)


def test_every_link_has_its_place(html: str) -> None:
    found = read(html).found
    places = [attrs["id"] for _, attrs in found if "id" in attrs]
    links = [(attrs["href"] or "")[1:] for tag, attrs in found if tag == "a"]
    assert links == places
    assert len(set(places)) == len(places) == 7


def test_the_page_says_what_the_markdown_says(record: Record, html: str) -> None:
    cells = [
        cell.strip().replace("\\|", "|")
        for line in markdown(record).splitlines()
        if line.startswith("| ")
        for cell in re.split(r"(?<!\\)\|", line)[1:-1]
    ]
    assert [cell for cell in cells if cell] == [cell for cell in read(html).cells if cell]


def test_names_cannot_smuggle_markup(record: Record) -> None:
    evil = "<script>alert(1)</script>"
    rows = [replace(each, label=evil) if each.case == "single" else each for each in ROWS]
    said = [replace(turn, error=turn.error and f"{evil} & more") for turn in TURNS]
    found = page(synthetic.record(rows, said, record.samples), said)
    assert "<script" not in found
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in found
    read(found)


def test_good_and_bad_news_stand_out(html: str) -> None:
    assert '<td class="good">passed</td>' in html
    assert '<td class="bad">failed</td>' in html
    assert re.search(r'<td class="good">[^<]* faster</td>', html)
    assert re.search(r'<td class="bad">[^<]* slower</td>', html)


def test_light_dark_and_paper_have_styles(html: str) -> None:
    assert "color-scheme: light dark" in html
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    defined = set(re.findall(r"(--\w+):", html))
    assert set(re.findall(r"var\((--\w+)\)", html)) <= defined


def test_every_class_of_a_figure_has_a_style(html: str) -> None:
    style, _, body = html.partition("</style>")
    used = {name for each in re.findall(r'class="([^"]+)"', body) for name in each.split()}
    assert {name for name in used if f".{name}" not in style} <= {"value"}


def test_a_quick_run_is_marked(record: Record, html: str) -> None:
    quick = replace(record, run=replace(record.run, quick=True))
    assert '<p class="warn"><b>Quick run' in page(quick, TURNS)
    assert 'class="warn"' not in html


def test_what_cannot_be_drawn_says_why(record: Record) -> None:
    broken = [replace(turn, stages={}, error="it fell") for turn in TURNS]
    found = page(synthetic.record(ROWS, broken, record.samples), broken)
    assert "<figure>" not in found
    for why in ("No row has times.", "No row states its operations and bytes.",
                "No row says how its time splits into stages.",
                "No row was run at several batch sizes.",
                "No row says how much memory it took."):  # fmt: skip
        assert found.count(why) >= 3


def drawings(html: str) -> list[ElementTree.Element]:
    found = [ElementTree.fromstring(each) for each in re.findall(r"<svg .*?</svg>", html, re.S)]
    return [each for each in found if each.get("role") == "img"]


def test_figures_are_whole_and_inside_their_frames(html: str) -> None:
    every = drawings(html)
    # single: all but the sweep; offline: latency and roofline of each of four batches, and three of
    # all; coldstart: latency and memory
    assert len(every) == 4 + (2 * 4 + 3) + 2
    for each in every:
        _, _, width, height = map(float, (each.get("viewBox") or "").split())
        for line in each.iter("polyline"):
            points = [tuple(map(float, p.split(","))) for p in (line.get("points") or "").split()]
            assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
        for words in each.iter("text"):
            assert "nan" not in (words.text or "")


def of(record: Record, case: str) -> plots.Chapter:
    return next(each for each in chapters(record) if each.case == case)


def corners(drawing: str, kind: str) -> list[list[tuple[float, float]]]:
    """Points of the lines of a class."""
    root = ElementTree.fromstring(drawing)
    found = [each for each in root.iter("polyline") if kind in (each.get("class") or "")]
    pairs = [(each.get("points") or "").split() for each in found]
    return [[tuple(map(float, pair.split(","))) for pair in each] for each in pairs]  # type: ignore[misc]


def test_a_distribution_climbs_from_nothing_to_all(record: Record) -> None:
    single = of(record, "single")
    lines = corners(plots.distribution(single, TURNS).drawing, "curve")
    assert len(lines) == len(single.timed)
    for points in lines:
        across, up = zip(*points, strict=True)
        assert list(across) == sorted(across)
        assert list(up) == sorted(up, reverse=True)
        assert (up[0], up[-1]) == (svg.BOTTOM, svg.TOP)


def test_peers_are_dashed(record: Record) -> None:
    drawn = plots.distribution(of(record, "single"), TURNS)
    assert len(corners(drawn.drawing, "peer")) == 2
    assert [each.words for each in drawn.legend if "dashed" in each.words] == [
        "ONNX Runtime GenAI (dashed)", "transformers generate (dashed)",
    ]  # fmt: skip


def test_bars_are_as_long_as_their_times(record: Record) -> None:
    single = of(record, "single")
    root = ElementTree.fromstring(plots.stages(single).drawing)
    widths = [float(each.get("width") or 0) for each in root.iter("rect")]
    # four rows of four stages and a rest; the first is the longest and fills the frame
    assert len(widths) == 20
    assert sum(widths[:5]) == pytest.approx(svg.WIDTH - 96 - 8, abs=0.5)
    eager, fp32 = (each.latency_ms["total"].mean for each in single.timed[:2])
    assert sum(widths[5:10]) / sum(widths[:5]) == pytest.approx(fp32 / eager, abs=0.01)


def test_points_stand_below_their_roofs(record: Record) -> None:
    drawn = plots.roofline(of(record, "single"), record.ceiling)
    root = ElementTree.fromstring(drawn.drawing)
    marks = [each for each in root.iter() if "point" in (each.get("class") or "").split()]
    assert len(marks) == 4 * 3
    top = min(up for line in corners(drawn.drawing, "roof") for _, up in line)
    heights = [float(each.get("cy") or 0) for each in marks if each.tag == "circle"]
    assert all(up > top for up in heights)
    titles = [each.find("title") for each in marks]
    assert titles[0] is not None
    assert re.fullmatch(r"torch eager, encode: 2\d\.\d GFLOP/s", titles[0].text or "")


def test_larger_batches_stand_further_to_the_right(record: Record) -> None:
    lines = corners(plots.sweep(of(record, "offline")).drawing, "curve")
    assert [len(each) for each in lines] == [4, 4]
    for points in lines:
        assert points == sorted(points)


def test_batches_that_stand_close_are_not_written_over_each_other(record: Record) -> None:
    rows = [synthetic.row("offline", name, batch=batch) for name in "abc" for batch in (1, 8)]
    turns = [synthetic.turn(each, 0, ms=10.0 * each.batch, noise=0.0001) for each in rows]
    drawn = plots.sweep(chapters(synthetic.record(rows, turns, record.samples))[0]).drawing
    root = ElementTree.fromstring(drawn)
    notes = [each for each in root.iter("text") if "note" in (each.get("class") or "")]
    # three equal lines: one name above each point, one below, and none over them
    assert sorted(each.text or "" for each in notes) == ["1", "1", "8", "8"]
    assert len({(each.get("x"), each.get("y")) for each in notes}) == 4


def test_the_command_writes_both_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], record: Record
) -> None:
    out = synthetic.folder(tmp_path / "OUT", ROWS, TURNS)
    assert run(app, name="vlv-bench", args=["report", str(out)]) == 0
    assert capsys.readouterr().out.split() == [f"{out / 'REPORT.md'}", f"{out / 'report.html'}"]
    assert (out / "REPORT.md").read_text() == markdown(record)


def test_a_price_is_kept_and_every_figure_still_follows(tmp_path: Path) -> None:
    out = synthetic.folder(tmp_path / "OUT", ROWS, TURNS)
    command = ["report", str(out), "--price-per-hour", "3.5"]
    assert run(app, name="vlv-bench", args=command) == 0
    assert "At 3.50 USD an hour for this machine." in (out / "REPORT.md").read_text()
    assert mismatches(out) == []


def test_a_run_without_a_price_says_how_to_give_one(record: Record) -> None:
    free = replace(record, run=replace(record.run, price_per_hour_usd=None))
    assert "`vlv-bench report OUT --price-per-hour USD` adds" in markdown(free)
    assert "| | machine hours |" in markdown(free).replace("|  |", "| |")


def test_there_is_no_report_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, name="vlv-bench", args=["report", str(tmp_path)]) == 2
    assert "holds no bench.json" in capsys.readouterr().err


def test_a_figure_of_each_work_holds_its_rows_alone_in_one_colour_each() -> None:
    rows, turns = synthetic.afternoon()
    offline = of(synthetic.record(rows, turns, Samples(turns=len(turns), sha256="0")), "offline")
    found = list(plots.parts(offline))
    assert [each.part for each in found] == ["batch 1", "batch 4", "batch 16", "batch 64"]
    latency = [plots.distribution(each, turns) for each in found]
    assert [each.title.rpartition(": ")[2] for each in latency] == [each.part for each in found]
    for each in latency:
        # without the batch, which the title has said
        assert [key.words for key in each.legend] == ["torch eager", "vlv onnx int8"]
    assert len({tuple(key.kind for key in each.legend) for each in latency}) == 1
