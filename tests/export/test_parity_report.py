"""Reports: verdicts, JSON and back, Markdown; and the table of limits."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from vlv_core.errors import ConfigError, ModelError, UsageError
from vlv_export.parity.report import (
    LEVELS,
    Check,
    Level,
    Report,
    broken,
    from_data,
    judged,
    read_json,
    to_data,
    write_json,
)
from vlv_export.parity.tables import markdown, summary
from vlv_export.parity.thresholds import LIMITS, limits_of

GOOD = Check(part="encoder", output="z", figure="relative L2", value=1e-7, most=1e-5)
BAD = replace(GOOD, output="prefix", value=0.031, worst="batch 3, row 1")
TOLD = Check(part="encoder", output="z", figure="largest error", value=7.0)


def report(*levels: Level) -> Report:
    return Report(model="tiny", variant="onnx-fp32", dtype="fp32", levels=levels)


def test_a_check_is_judged_by_its_limit() -> None:
    assert GOOD.passed and not BAD.passed
    assert Check(part="p", output="o", figure="cosine", value=0.9, least=0.99).passed is False
    assert TOLD.passed and not TOLD.judged and TOLD.allowed == "reported"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_passes_nothing(value: float) -> None:
    assert not replace(GOOD, value=value).passed
    assert not replace(GOOD, value=-value, most=None, least=0.5).passed


def test_a_failure_names_level_part_output_and_worst_case() -> None:
    failed = report(judged("L1", [GOOD, BAD, TOLD]))
    assert failed.failures() == [
        "L1: part 'encoder': relative L2 of 'prefix' is 0.031 (at most 1e-05), at batch 3, row 1"
    ]


@pytest.mark.parametrize(
    "levels, verdict",
    [
        ([judged("L0", [GOOD]), Level(level="L3", state="not applicable")], "passed"),
        ([judged("L0", [GOOD]), judged("L1", [BAD])], "failed"),
        ([judged("L0", [GOOD]), broken("L1", "no such file")], "failed"),
        ([Level(level="L1", state="not run", reason="no kernels")], "not run"),
        ([], "not run"),
    ],
)
def test_one_failure_is_a_failure_and_nothing_run_is_nothing_proved(
    levels: list[Level], verdict: str
) -> None:
    assert report(*levels).verdict == verdict


def test_the_manifest_gets_verdict_and_states() -> None:
    made = report(judged("L0", [GOOD]), Level(level="L3", state="not applicable", reason="random"))
    assert made.summary() == {
        "verdict": "passed",
        "levels": {"L0": "passed", "L3": "not applicable: random"},
    }


def test_a_level_is_found_by_name() -> None:
    made = report(judged("L0", [GOOD]))
    assert made.level("L0").checks == (GOOD,)
    with pytest.raises(ModelError, match="report of 'onnx-fp32' has no level 'L5'"):
        made.level("L5")


def test_json_is_read_back_as_it_was(tmp_path: Path) -> None:
    spread = replace(GOOD, distribution={"p50": 1e-8, "max": 1e-7})
    reports = {"a": report(judged("L1", [spread, BAD], notes=("a note",))), "b": report()}
    path = tmp_path / "parity.json"
    write_json(reports, path)
    assert read_json(path) == reports
    data = json.loads(path.read_text())["variants"]["a"]
    assert data["verdict"] == "failed" and data["failures"][0].startswith("L1: part 'encoder'")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_figures_that_are_no_numbers_survive_json_as_failures(value: float) -> None:
    low = replace(GOOD, value=value, most=None, least=1.0, worst="nan", distribution={"max": value})
    made = report(judged("L1", [low]))
    assert made.verdict == "failed"
    text = json.dumps(to_data(made), allow_nan=False)
    again = from_data(json.loads(text), where="here")
    assert again.verdict == "failed" and again.level("L1").checks[0].worst == "nan"
    assert not math.isfinite(again.level("L1").checks[0].value)


@pytest.mark.parametrize("text", ["", "[]", '{"variants": 3}', '{"schema": 1}'])
def test_other_files_are_no_reports(text: str, tmp_path: Path) -> None:
    path = tmp_path / "parity.json"
    path.write_text(text)
    with pytest.raises(ModelError, match="is no parity report"):
        read_json(path)


def test_unknown_keys_of_a_report_are_told() -> None:
    with pytest.raises(ConfigError, match="here: no key 'odd'"):
        from_data({**to_data(report()), "odd": 1}, where="here")


def test_markdown_has_a_table_a_level_and_the_failure_on_top() -> None:
    made = report(
        judged("L1", [GOOD, BAD, TOLD], notes=("2 near-ties",)),
        Level(level="L4", state="not run", reason="no evaluator | here"),
    )
    text = markdown({"onnx-fp32": made})
    assert "**failed** L1: part 'encoder': relative L2 of 'prefix' is 0.031" in text
    assert "| encoder | prefix | relative L2 | 0.031 | at most 1e-05 | **failed** |" in text
    assert "| encoder | z | largest error | 7 | reported | reported |" in text
    assert "2 near-ties." in text and "not run: no evaluator \\| here" in text
    lines = [line for line in text.splitlines() if line.startswith("| onnx-fp32")]
    assert lines == ["| onnx-fp32 | failed | not run: no evaluator \\| here | **failed** |"]


def test_the_summary_shows_the_levels_that_some_variant_has() -> None:
    other = replace(report(judged("L0", [GOOD])), variant="onnx-int8")
    text = summary({"onnx-fp32": report(judged("L1", [GOOD])), "onnx-int8": other})
    head, _, first, second = text.splitlines()
    assert "L0 files" in head and "L1 each part" in head and "L2" not in head
    assert first == "| onnx-fp32 | - | passed | **passed** |"
    assert second == "| onnx-int8 | passed | - | **passed** |"


def test_limits_are_those_that_were_asked_for() -> None:
    assert LIMITS["fp32"].relative_l2 == 1e-5
    cosines = [LIMITS[each].cosine for each in ("fp16", "bf16", "int8", "int4")]
    assert cosines == [0.9995, 0.999, 0.99, None]
    assert [each.points for each in LIMITS.values()] == [0.5, 0.5, 0.5, 1.0, 2.0]
    assert all(LIMITS[each].agreement == 0.999 for each in ("fp16", "bf16"))
    ties = [each.near_tie for each in LIMITS.values()]
    assert ties == sorted(ties), "a coarser dtype cannot be surer of its words"


def test_a_dtype_without_limits_is_told() -> None:
    with pytest.raises(UsageError, match="no parity limits for 'fp8'; there are fp32, fp16"):
        limits_of("fp8")


def test_levels_are_in_their_order() -> None:
    assert [*LEVELS] == [f"L{index}" for index in range(7)]
