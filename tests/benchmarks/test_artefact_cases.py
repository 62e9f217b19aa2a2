"""The cases `export` and `parity`: what they make of a command's words, a manifest, a proof."""

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vlv_benchmarks.cases import export, parity
from vlv_benchmarks.child import perform
from vlv_benchmarks.job import Job
from vlv_benchmarks.record import Row
from vlv_benchmarks.turn import Turn
from vlv_export.manifest import SCHEMA, FileEntry, Manifest, VariantEntry, write_manifest
from vlv_export.parity import Report
from vlv_export.parity.report import Check, Level, judged

SAID = """\
capture encoder: 10.7 s
capture head: 11.8 s
golden values: 9.2 s
assets: kept from before
build onnx-fp32: 0.4 s
prove onnx-fp32: 10.2 s
a line about 3.0 s
"""


def manifest(out: Path, verdicts: dict[str, str]) -> None:
    """Of variants whose proof came to this, with a graph each and a report."""
    files = {f"variants/{name}/head.onnx": FileEntry(sha256="0" * 64, bytes=1000)
             for name in verdicts}  # fmt: skip
    variants = {
        name: VariantEntry(exporter="onnx", dtype="fp32", state="proved", graphs={},
                           parity={"verdict": verdict})
        for name, verdict in verdicts.items()
    }  # fmt: skip
    out.mkdir()
    made = Manifest(
        schema=SCHEMA, created="2026-11-22T00:00:00Z", tool={}, packages={}, host={}, model={},
        files={**files, "reports/parity.json": FileEntry(sha256="0" * 64, bytes=77)},
        variants=variants, default=next(iter(verdicts)),
    )  # fmt: skip
    write_manifest(made, out)


def exported(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    verdicts: dict[str, str],
    *,
    code: int = 0,
    said: str = SAID,
) -> tuple[Turn, list[str]]:
    """A turn whose command writes a manifest and says something; and the command."""
    asked: list[str] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        asked.extend(command)
        if not code:
            manifest(Path(command[command.index("-o") + 1]), verdicts)
        return SimpleNamespace(returncode=code, stderr=said)

    monkeypatch.setattr(subprocess, "run", run)
    row = Row(case="export", backend="vlv-export", label="x", model="mini", threads=2)
    job = Job(run="vlv_benchmarks.cases.export:run", row=row, scratch=str(folder),
              settings={"model": "mini", "dtypes": "fp32,int8"})  # fmt: skip
    return perform(job), asked


def test_an_exports_stages_are_its_own_steps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    turn, asked = exported(monkeypatch, tmp_path, {"a": "passed", "b": "passed"})
    assert {name: each[0] for name, each in turn.stages.items() if name != "total"} == {
        "capture": 22500.0, "golden": 9200.0, "build": 400.0, "prove": 10200.0
    }  # fmt: skip
    assert turn.facts == {"graph_bytes": 2000.0}, "reports tell of times, so that their size varies"
    assert turn.quality.parity == "passed" and turn.quality.reason == ""
    words = " ".join(asked[3:])
    assert words == f"mini -o {tmp_path / 'out'} --onnx --dtype fp32,int8 --threads 2"


def test_an_export_that_is_not_proved_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    turn, _ = exported(monkeypatch, tmp_path, {"a": "passed", "b": "failed"})
    assert turn.quality.parity == "failed" and turn.quality.reason == "not proved: b"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (f"{SAID}error: the disk is full\nhint: make room\n", "the disk is full"),
        (SAID, "a line about 3.0 s"),
        ("", "exit code 3"),
    ],
)
def test_an_export_that_fails_says_why(
    said: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    turn, _ = exported(monkeypatch, tmp_path, {}, code=3, said=said)
    assert turn.error == f"the export failed: {reason}"


def report(*, worst: float) -> Report:
    def check(part: str, figure: str, value: float, **bound: float) -> Check:
        return Check(part=part, output="z", figure=figure, value=value, **bound)

    levels = (
        Level(level="L0", state="not applicable", reason="nothing to look at"),
        judged("L1", [check("encoder", "relative L2", 1e-6, most=1e-5),
                      check("head", "relative L2", worst, most=1e-5),
                      check("head", "cosine", 1.0, least=0.9)]),
        judged("L3", [check("captions", "captions the same, share", 1.0),
                      check("beams", "captions the same, share", 0.75)]),
        judged("L4", [check("captions", "difference, points", 0.0, most=0.5)]),
    )  # fmt: skip
    return Report(model="mini", variant="onnx-fp32", dtype="fp32", levels=levels)


def test_figures_of_a_proof_are_few_and_the_worst_of_each() -> None:
    assert parity.figures_of(report(worst=7e-6)) == {
        "L1 relative L2": 7e-6,
        "L3 captions the same, share": 0.75,
        "L4 difference, points": 0.0,
    }


@pytest.mark.parametrize(("worst", "verdict"), [(7e-6, "passed"), (7e-5, "failed")])
def test_a_proof_is_timed_by_level_and_its_verdict_is_the_rows(
    worst: float, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    plain = report(worst=worst)
    timed = replace(plain, levels=tuple(
        replace(each, seconds=index / 10) for index, each in enumerate(plain.levels)
    ))  # fmt: skip
    asked: list[Any] = []

    def check(folder: Path, variant: str, levels: list[str], *, threads: int) -> Report:
        asked.append((folder, variant, levels, threads))
        return timed

    monkeypatch.setattr("vlv_export.parity.check", check)
    row = Row(case="parity", backend="onnxruntime", label="x", model="mini", threads=2)
    settings = {"artefact": "A", "variant": "onnx-fp32", "levels": ["L1"], "facts": {"n": 3.0}}
    turn = perform(Job(run="vlv_benchmarks.cases.parity:run", row=row, settings=settings))
    assert turn.error is None and turn.quality.parity == verdict and turn.facts == {"n": 3.0}
    assert set(turn.stages) == {"total", "L1", "L3", "L4"} and turn.stages["L3"] == (200.0,)
    assert asked == [(Path("A"), "onnx-fp32", ["L1"], 2)]
    if verdict == "failed":
        assert "L1: part 'head': relative L2 of 'z' is 7e-05" in turn.quality.reason


def test_every_step_that_the_command_tells_is_a_stage() -> None:
    assert export.steps("capture a: 1.5 s\ncaptures a: 1.5 s\nprove: stopped after 2.0 s") == {
        "capture": [1500.0]
    }
