"""The command itself."""

from pathlib import Path

import pytest

from tests.benchmarks import toy_runs
from tests.benchmarks.toy_runs import TOYS
from vlv_benchmarks.cli import app
from vlv_core.console import run


def bench(*args: str | Path) -> int:
    return run(app, name="vlv-bench", args=list(map(str, args)))


def test_a_dry_run_lists_rows_and_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    code = bench("run", "toy", "--rows", "steady,refused", "--plugin", TOYS, "--dry-run")
    said = capsys.readouterr().out.splitlines()
    assert code == 0
    assert said == [
        "toy: steady, batch 1: 5 turns",
        "toy: refused, batch 1: not run: needs a GPU",
        "2 rows: 1 to run, 1 not run",
    ]


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("run", "--help") == 0
    said = capsys.readouterr().out
    assert "vlv-bench run --quick -o OUT" in said and "--artefact" in said


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["run", "toy"], "missing option -o OUT"),
        (["run", "nothing", "-o", "x"], "no bench-case named 'nothing'; installed: coldstart"),
        (["run", "toy", "--rows", "refused", "-o", "x"], "no row can run here: needs a GPU"),
        (["run", "single", "--artefact", "absent", "-o", "x"], "is no finished artefact"),
        (["peers", "setup"], "no peer is named"),
        (["peers", "setup", "llama-cpp"], "llama-cpp lives in vlv's own environment"),
    ],
)
def test_wrong_usage_says_what_to_do(
    args: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = ["--plugin", str(TOYS)] if args[0] == "run" else []
    assert bench(*args, *plugin) == 2
    said = capsys.readouterr().err
    assert reason in said and ("hint: " in said or "installed: " in said)
    assert not Path("x").exists()


def test_progress_rate_and_what_failed_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_runs.still(monkeypatch)
    out = tmp_path / "out"
    args = ("run", "toy", "--rows", "steady,raise,wrong", "--turns", "1", "--plugin", TOYS,
            "--threads", "1", "-o", out)  # fmt: skip
    assert bench(*args) == 5
    said = capsys.readouterr()
    assert "1/3 toy: steady, batch 1 turn 1: " in said.err and "turns/min, 0 s left" in said.err
    assert "failed: the pictures are gone" in said.err
    assert "parity failed: says something else" in said.err
    assert "3 rows: 1 ok, 0 unstable, 2 failed, 0 not run" in said.out
    # the same command again finds nothing to do, and says the same
    assert bench(*args) == 5
    assert "3 of 3 turns were run before" in capsys.readouterr().err


def test_peers_are_listed_with_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("peers", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["transformers", "onnxruntime-genai"]
    assert all(": ready" in line or ": not run: " in line for line in lines)


def test_why_rows_were_not_run_is_told_once_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_runs.still(monkeypatch)
    args = ("run", "toy", "--rows", "steady,refused", "--turns", "1", "--plugin", TOYS,
            "--threads", "1", "-o", tmp_path / "out")  # fmt: skip
    assert bench(*args) == 0
    said = capsys.readouterr()
    assert "2 rows: 1 ok, 0 unstable, 0 failed, 1 not run" in said.out
    assert "not run, 1 row: needs a GPU" in said.err
