"""`REPORT.md`, word by word: a full afternoon, and a quick run in which nothing worked."""

import os
from pathlib import Path

import pytest

from tests.benchmarks import synthetic
from vlv_benchmarks import text
from vlv_benchmarks.record import Latency, Ratio, Record, Result, Row, Samples
from vlv_benchmarks.report.chapter import chapters, swept
from vlv_benchmarks.report.markdown import QUICK, markdown
from vlv_benchmarks.turn import Turn

GOLDEN = Path(__file__).with_name("golden")


def afternoon() -> Record:
    rows, turns = synthetic.afternoon()
    return synthetic.record(rows, turns, Samples(turns=len(turns), sha256="0"))


def failures() -> Record:
    """A quick run of a row that failed and one that could not run."""
    rows = [synthetic.row(label="torch.compile"), synthetic.row(label="a|b")]
    fell = Turn(row=rows[1].key, turn=0, started="", error="killed | after 3 s")
    return synthetic.record(rows, [fell], Samples(turns=1, sha256="0"), quick=True)


@pytest.mark.parametrize("record", [afternoon, failures], ids=lambda each: each.__name__)
def test_the_report_is_the_golden_one(record: object) -> None:
    assert callable(record)
    path = GOLDEN / f"{record.__name__}.md"  # type: ignore[attr-defined]
    found = markdown(record())
    if os.environ.get("VLV_UPDATE_GOLDEN"):
        path.write_text(found)
    assert found == path.read_text(), "VLV_UPDATE_GOLDEN=1 accepts the new one: read the diff"


def line(of: str, name: str, head: str = "### Rows") -> list[str]:
    """The cells of a row of a table."""
    table = of.partition(head)[2]
    found = next(each for each in table.splitlines() if each.startswith(f"| {name} |"))
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_a_row_without_times_has_its_reason_and_no_time() -> None:
    report = markdown(afternoon())
    for name, reason in (
        ("vlv onnx int4", "failed: parity: captions equal in 61 %, allowed 90 %"),
        ("torch.compile", "not run: no C++ compiler is installed"),
        ("llama.cpp", "failed: its process ended by signal 9 after 41 s"),
    ):
        name_cell, said, *others = line(report, name)
        assert (name_cell, said) == (name, reason)
        assert not any(others)
        assert f"**single: {name}, batch 1**: {reason}" in report


def test_no_cell_of_a_row_with_times_is_blank() -> None:
    report = markdown(afternoon())
    for name in ("torch eager", "vlv onnx fp32", "ONNX Runtime GenAI †", "transformers generate"):
        assert all(line(report, name))


def test_percentiles_with_too_few_samples_say_so() -> None:
    report = markdown(afternoon())
    assert line(report, "transformers generate")[3] == "n/a (n = 100)"
    assert line(report, "torch eager")[3] == "50.2"


def test_an_unstable_row_is_marked_and_explained() -> None:
    report = markdown(afternoon())
    assert "| ONNX Runtime GenAI † |" in report
    assert "† the probe says that the machine changed meanwhile" in report
    assert "†" not in markdown(failures())


def test_counts_of_rows_add_up() -> None:
    assert "18 rows planned: 14 ok, 1 unstable, 2 failed, 1 not run." in markdown(afternoon())
    assert "2 rows planned: 0 ok, 0 unstable, 1 failed, 1 not run." in markdown(failures())


def test_a_quick_run_says_so_first() -> None:
    assert markdown(failures()).splitlines()[2] == f"**{QUICK}**"
    assert QUICK not in markdown(afternoon())


def test_a_bar_in_a_name_does_not_break_the_table() -> None:
    report = markdown(failures())
    assert "| a\\|b | failed: killed \\| after 3 s |  |" in report


def test_every_table_is_whole() -> None:
    for report in (markdown(afternoon()), markdown(failures())):
        block: list[str] = []
        for each in [*report.splitlines(), ""]:
            if each.startswith("|"):
                block.append(each.replace("\\|", ""))
            elif block:
                assert len({row.count("|") for row in block}) == 1, block
                assert set(block[1]) == {"|", "-"}
                block = []


def test_the_cost_is_that_of_the_throughput() -> None:
    # 1e6 / 50.5 images/s / 3600 s, at 0.19 USD an hour
    assert line(markdown(afternoon()), "single: vlv onnx fp32, batch 1", "## A million")[1:] == [
        "5.50", "1.05",
    ]  # fmt: skip
    assert "A million captions" not in markdown(failures())


def test_the_command_is_the_one_to_type_again() -> None:
    assert "- **command**: `vlv-bench run --model mini -o OUT`" in markdown(afternoon())


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (0.01234, "0.0123"), (0.5, "0.500"), (1.2345, "1.23"), (12.345, "12.3"),
     (123.45, "123"), (99.96, "100"), (12345.6, "12,346"), (None, "–"),
     (-3.14159, "-3.14"), (0.0000123, "0.0000123"), (3e-9, "3.00e-09")],
)  # fmt: skip
def test_figures_have_three_digits(value: float | None, shown: str) -> None:
    assert text.figure(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(412, "412"), (24.0, "24"), (0.99998, "0.99998"), (65536, "65,536"), (2_345_678, "2,345,678"),
     ("varies: 3, 4", "varies: 3, 4"), (None, "–")],
)  # fmt: skip
def test_counts_are_exact(value: float | str | None, shown: str) -> None:
    assert text.exact(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.416, "42%"), (1.5, "150%"), (650.15, "65,015%"), (0.0312, "3.1%"), (0.09951, "10%"),
     (0.03, "3%"), (0.00041, "0.041%"), (0.0, "0%"), (1.0, "100%"), (None, "–")],
)  # fmt: skip
def test_small_shares_are_not_called_nought(share: float | None, shown: str) -> None:
    assert text.percent(share) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(134_515_008, "135 million"), (1.2e9, "1.20 billion"), (4096, "4.10 thousand"), (12, "12.0")],
)
def test_large_counts_have_words(count: float, shown: str) -> None:
    assert text.size(count) == shown


def test_small_ratios_keep_their_digits() -> None:
    slow = Ratio(to="x", pairs=5, median=0.0618, low=0.0601, high=0.0633, verdict="slower")
    assert text.speed(slow) == "0.062x (0.060, 0.063) slower"
    assert text.speed(None) == "–"


def test_a_row_is_called_by_what_tells_it_apart() -> None:
    rows = [
        Row(case="c", backend="b", label="ours", model="m", batch=1),
        Row(case="c", backend="b", label="ours", model="m", batch=8),
        Row(case="c", backend="b", label="ours", model="m", batch=8, device="cuda", threads=2),
    ]
    assert [*text.names(rows).values()] == [
        "ours, batch 1, cpu, 1 thread",
        "ours, batch 8, cpu, 1 thread",
        "ours, batch 8, cuda, 2 threads",
    ]
    assert [*text.names(rows[:1]).values()] == ["ours"]


def test_options_that_differ_are_part_of_the_name() -> None:
    rows = [
        Row(case="c", backend="b", label="ours", model="m", options={"steps": steps, "cfg": 3.0})
        for steps in (10, 20)
    ]
    assert [*text.names(rows).values()] == ["ours, steps 10", "ours, steps 20"]


def test_rows_of_one_label_are_told_apart_by_their_keys() -> None:
    rows = [Row(case="c", backend="b", label="ours", model="m", dtype=each) for each in ("x", "y")]
    assert [*text.names(rows).values()] == ["ours (c/b/m/x/b1/cpu/t1)", "ours (c/b/m/y/b1/cpu/t1)"]


def test_lines_of_one_label_are_not_joined_in_a_sweep() -> None:
    rows = [
        synthetic.row("offline", "ours", batch=batch, dtype=dtype)
        for dtype in ("fp32", "int8") for batch in (1, 4)
    ]  # fmt: skip
    turns = [synthetic.turn(each, 0, ms=9.0) for each in rows]
    (only,) = chapters(synthetic.record(rows, turns, Samples(turns=4, sha256="0")))
    assert [len(found) for found in swept(only).values()] == [2, 2]


def test_chapters_are_cases_of_a_model_in_the_order_of_the_plan() -> None:
    assert [each.title for each in chapters(afternoon())] == [
        "single: mini", "offline: mini", "coldstart: mini",
    ]  # fmt: skip


def test_a_sweep_is_of_rows_that_ran_at_several_batches() -> None:
    single, offline, _ = chapters(afternoon())
    assert swept(single) == {}
    batches = {label: [each.row.batch for each in found] for label, found in swept(offline).items()}
    assert batches == {"torch eager": [1, 4, 16, 64], "vlv onnx int8": [1, 4, 16, 64]}


def test_a_tail_that_is_known_is_a_figure() -> None:
    latency = Latency(n=400, median=1.0, low=1.0, high=1.0, p50=1.0, p99=2.5, mean=1.0)
    assert text.tail(latency, latency.p99) == "2.50"
    assert text.tail(latency, latency.p90) == "n/a (n = 400)"
    assert not Result(row=synthetic.row(), status="ok").timed
