"""A run is what its raw samples say; every way to make it say something else is found."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import synthetic
from vlv_benchmarks.cli import app
from vlv_benchmarks.report import write_report
from vlv_benchmarks.verify import differences, mismatches
from vlv_core.console import run
from vlv_core.errors import DataError


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run with its report."""
    rows, turns = synthetic.afternoon()
    kept = [each for each in rows if each.case == "single"]
    keys = {each.key for each in kept}
    path = synthetic.folder(tmp_path / "OUT", kept, [each for each in turns if each.row in keys])
    write_report(path)
    return path


def test_a_run_follows_from_its_samples(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mismatches(out) == []
    assert run(app, name="vlv-bench", args=["verify", str(out)]) == 0
    said = capsys.readouterr().out
    assert said == "all figures of 8 rows follow from the samples of 31 turns\n"


def test_a_record_may_stand_without_a_report(out: Path) -> None:
    (out / "REPORT.md").unlink()
    (out / "report.html").unlink()
    assert mismatches(out) == []


def edit(out: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Doctor the record, and make the report again so that only the samples disagree."""
    data = json.loads((out / "bench.json").read_text())
    change(data)
    (out / "bench.json").write_text(json.dumps(data))
    write_report(out)


def _median(data: dict[str, Any]) -> None:
    data["result"][1]["latency_ms"]["total"]["median"] *= 0.98


def _rate(data: dict[str, Any]) -> None:
    data["result"][2]["throughput"]["images_per_s"] += 1


def _memory(data: dict[str, Any]) -> None:
    data["result"][0]["memory_mb"] = 1


def _parity(data: dict[str, Any]) -> None:
    data["result"][3].update(status="ok", reason="", quality={"parity": "passed"})


def _verdict(data: dict[str, Any]) -> None:
    data["result"][5]["ratio"]["verdict"] = "slower"


def _share(data: dict[str, Any]) -> None:
    data["result"][1]["roofline"]["encode"]["share"] = 0.99


def _steady(data: dict[str, Any]) -> None:
    data["result"][4].update(status="ok", reason="")


def _tail(data: dict[str, Any]) -> None:
    data["result"][5]["latency_ms"]["total"]["p99"] = 31.0


def _hidden(data: dict[str, Any]) -> None:
    data["result"][0]["status"] = "not run"


def _embarrassing(data: dict[str, Any]) -> None:
    row = data["result"][0]["row"]
    data["result"][0] = {"row": row, "status": "not run", "reason": "no time"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_median, "latency_ms.total.median is"),
        (_rate, "throughput.images_per_s is"),
        (_memory, "memory_mb is 1"),
        (_parity, "status is 'ok', and the samples say 'failed'"),
        (_verdict, "ratio.verdict is 'slower', and the samples say 'inconclusive'"),
        (_share, "roofline.encode.share is 0.99, and the samples say 0."),
        (_steady, "status is 'ok', and the samples say 'unstable'"),
        (_tail, "latency_ms.total.p99 is 31.0, and the samples say None"),
        (_embarrassing, "status is 'not run', and the samples say 'ok'"),
        (_hidden, "status is 'not run', and the samples say 'ok'"),
    ],
)
def test_a_doctored_figure_is_found(
    out: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Any]], None],
    said: str,
) -> None:
    edit(out, change)
    assert any(said in each for each in mismatches(out)), mismatches(out)
    assert run(app, name="vlv-bench", args=["verify", str(out)]) == 5
    assert "do not follow from its samples" in capsys.readouterr().err


def lines(out: Path) -> list[str]:
    return (out / "samples.jsonl").read_text().splitlines(keepends=True)


def test_a_doctored_sample_is_found_in_every_figure_that_it_moves(out: Path) -> None:
    first, *rest = lines(out)
    turn = json.loads(first)
    turn["stages"]["total"] = [ms * 0.5 for ms in turn["stages"]["total"]]
    (out / "samples.jsonl").write_text("".join([json.dumps(turn) + "\n", *rest]))
    found = "\n".join(mismatches(out))
    assert "its sha256 differs" in found
    assert "latency_ms.total.low is" in found
    assert "latency_ms.total.mean is" in found


def test_a_sample_that_moves_no_figure_is_found_too(out: Path) -> None:
    first, *rest = lines(out)
    turn = json.loads(first)
    turn["discarded"]["total"][0] += 1
    (out / "samples.jsonl").write_text("".join([json.dumps(turn) + "\n", *rest]))
    (only,) = [each for each in mismatches(out) if "report.html" not in each]
    assert only == "samples.jsonl is not the file that bench.json was made from: its sha256 differs"


def test_a_missing_sample_is_found(out: Path) -> None:
    (out / "samples.jsonl").write_text("".join(lines(out)[1:]))
    assert "samples.jsonl holds 30 turns, and bench.json was made from 31" in mismatches(out)


def test_a_sample_of_no_row_is_found(out: Path) -> None:
    stray = json.loads(lines(out)[0]) | {"row": "single/nobody"}
    (out / "samples.jsonl").write_text("".join([*lines(out), json.dumps(stray) + "\n"]))
    assert any("turns of single/nobody, which is no row" in each for each in mismatches(out))


@pytest.mark.parametrize("damage", ["gone", "torn", "negative"])
def test_samples_that_are_gone_or_broken_prove_nothing(out: Path, damage: str) -> None:
    path = out / "samples.jsonl"
    if damage == "gone":
        path.unlink()
    elif damage == "torn":
        path.write_text("{\n" + path.read_text())
    else:
        turn = json.loads(lines(out)[0])
        turn["stages"]["total"][0] = -1.0
        path.write_text(json.dumps(turn) + "\n")
    assert mismatches(out)
    assert run(app, name="vlv-bench", args=["verify", str(out)]) == 5


@pytest.mark.parametrize(("name", "was", "now"), [("REPORT.md", "19.6", "9.6"),
                                                  ("report.html", ">faster<", ">2x<")])  # fmt: skip
def test_a_doctored_report_is_found(out: Path, name: str, was: str, now: str) -> None:
    path = out / name
    text = path.read_text()
    path.write_text(text.replace(was, now) if was in text else text.replace("median", "mean"))
    (only,) = mismatches(out)
    assert only.startswith(f"{name} is not what bench.json says: line ")


def test_a_report_that_ends_early_is_found(out: Path) -> None:
    path = out / "REPORT.md"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert mismatches(out) == ["REPORT.md is not what bench.json says: its length differs"]


def test_a_folder_without_a_run_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no bench\.json"):
        mismatches(tmp_path)
    assert run(app, name="vlv-bench", args=["verify", str(tmp_path)]) == 2


def test_differences_name_the_path_and_forgive_the_last_digit() -> None:
    written = {"a": {"b": 1.0, "c": [1, 2]}, "d": "x"}
    assert [*differences(written, {"a": {"b": 1.0 + 1e-12, "c": [1, 2]}, "d": "x"})] == []
    assert [*differences(written, {"a": {"b": 1.1, "c": [1, 3]}})] == [
        ("a.b", 1.0, 1.1), ("a.c", [1, 2], [1, 3]), ("d", "x", None),
    ]  # fmt: skip
