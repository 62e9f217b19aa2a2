"""Running levels: which run, which do not and why, and what a caller is told."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.export import faults
from vlv_core.errors import ModelError, UsageError
from vlv_core.protocols import Caption
from vlv_export.golden import GOLDEN, Golden, read_golden
from vlv_export.manifest import read_manifest
from vlv_export.parity import EXPORT_LEVELS, LEVELS, check
from vlv_export.parity.captions import _compared
from vlv_export.parity.engine import check_engine
from vlv_export.parity.files import precision_check
from vlv_export.parity.fresh import check_fresh
from vlv_export.parity.parts import check_parts, compare
from vlv_export.parity.target import Target
from vlv_export.parity.teacher import check_teacher, lookup


@pytest.fixture(scope="module")
def golden(proven: Path) -> Golden:
    return read_golden(proven / GOLDEN)


@pytest.fixture
def target(proven: Path, golden: Golden) -> Target:
    return Target(proven, read_manifest(proven), "onnx-fp32", golden)


def test_an_export_runs_every_level() -> None:
    assert tuple(LEVELS) == EXPORT_LEVELS


def test_levels_run_in_their_order_and_say_so(proven: Path) -> None:
    told: list[str] = []
    report = check(proven, None, ["L2", "L0"], progress=told.append)
    assert [level.level for level in report.levels] == ["L0", "L2"]
    assert report.variant == "onnx-fp32" and report.model.startswith("tiny@")
    assert told == [f"onnx-fp32: {name} {LEVELS[name]}" for name in ("L0", "L2")]


def test_graphs_without_kernels_are_checked_and_not_run(proven: Path) -> None:
    report = check(proven, "onnx-bf16", ["L0", "L1", "L6"])
    assert [level.state for level in report.levels] == ["passed", "not run", "not run"]
    assert report.levels[1].reason == "no CPU kernels"
    assert {"bf16"} == {each.figure.split()[-1] for each in report.levels[0].checks[-3:]}


def test_int8_is_judged_by_its_own_limits(proven: Path) -> None:
    report = check(proven, "onnx-int8", ["L1"])
    cosines = [each for each in report.level("L1").checks if each.figure == "cosine"]
    assert cosines and all(each.least == 0.99 for each in cosines)


def test_unknown_levels_variants_and_folders_are_told(proven: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no level 'L9'.*levels: L0, L1"):
        check(proven, None, ["L9"])
    with pytest.raises(ModelError, match="no variant 'onnx-fp8'"):
        check(proven, "onnx-fp8")
    with pytest.raises(ModelError, match="is no finished artefact"):
        check(tmp_path)


def test_without_golden_values_nothing_is_compared(proven: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(proven, tmp_path / "OUT"))
    (out / GOLDEN).unlink()
    with pytest.raises(ModelError, match="is missing, so nothing can be compared"):
        check(out)


def test_random_weights_are_judged_by_parts_and_divergence_alone(
    target: Target, golden: Golden
) -> None:
    random = replace(golden, facts=replace(golden.facts, random_weights=True))
    report = check(target.folder, "onnx-fp32", ["L2", "L3", "L4"], random)
    states = {level.level: (level.state, level.reason) for level in report.levels}
    assert states["L3"] == states["L4"] == ("not applicable", "random weights")
    judged = [each.figure for each in report.level("L2").checks if each.judged]
    assert judged == ["mean KL (nats)"]


def test_a_part_without_golden_values_fails(target: Target, golden: Golden) -> None:
    fewer = replace(golden, cases=tuple(each for each in golden.cases if each.part != "text"))
    level = check_parts(replace(target, golden=fewer))
    assert [each.sentence() for each in level.failures()] == [
        "part 'text': missing golden values of 'all' is 1 (at most 0), at the golden file has "
        "none; export the model again"
    ]


def test_outputs_of_other_shapes_and_without_numbers_fail(target: Target) -> None:
    one = np.ones((2, 3), np.float32)
    (check_,) = compare(target, "encoder", "z", [("batch 2", one[:, :2], one)])
    assert check_.figure == "wrong shapes" and check_.worst == "batch 2: (2, 2), expected (2, 3)"
    (check_,) = compare(target, "encoder", "z", [("batch 2", one * np.nan, one)])
    assert check_.figure == "outputs that hold no numbers" and not check_.passed


def test_calls_that_the_graph_refuses_fail_with_its_words(target: Target, golden: Golden) -> None:
    cut = [
        replace(each, inputs={"view": each.inputs["view"][:, :9]})
        if each.part == "encoder"
        else each
        for each in golden.cases
    ]
    level = check_parts(replace(target, golden=replace(golden, cases=tuple(cut))))
    (failed,) = [each for each in level.failures() if each.part == "encoder"]
    assert failed.figure == "calls that failed" and failed.worst.startswith("batch 1: onnxruntime")


def test_the_worst_row_is_named(target: Target, golden: Golden) -> None:
    cases = list(golden.cases)
    index = next(
        i for i, each in enumerate(cases) if (each.part, each.title[:7]) == ("text", "batch 3")
    )
    context = cases[index].outputs["context"].copy()
    context[1] *= 1.1
    cases[index] = replace(cases[index], outputs={"context": context})
    level = check_parts(replace(target, golden=replace(golden, cases=tuple(cases))))
    (failed,) = level.failures()
    assert (failed.part, failed.output, failed.worst) == ("text", "context", "batch 3, row 1")
    assert failed.value == pytest.approx(1 - 1 / 1.1, rel=1e-3)


def test_a_lost_word_fails_l2_and_near_ties_are_counted_apart(
    target: Target, golden: Golden
) -> None:
    margins = golden.top_log_probs[:, 0] - golden.top_log_probs[:, 1]
    ids = golden.top_ids.copy()
    clear = int(margins.argmax())
    ids[clear, :2] = ids[clear, 1::-1]
    level = check_teacher(replace(target, golden=replace(golden, top_ids=ids)))
    failed = {each.figure for each in level.failures()}
    assert "best token the same" in failed and "mean KL (nats)" in failed
    near = golden.top_log_probs.copy()
    near[clear, 1] = near[clear, 0]
    level = check_teacher(replace(target, golden=replace(golden, top_ids=ids, top_log_probs=near)))
    assert "best token the same" not in {each.figure for each in level.failures()}
    assert "1 of them fell the other way" in level.notes[0]


def test_tokens_that_are_not_among_the_best_get_the_last_ones_chance() -> None:
    ids, log_probs = np.array([[4, 2]]), np.array([[-0.5, -1.5]], np.float32)
    assert lookup(ids, log_probs, np.array([[2, 9, 4]])).tolist() == [[-1.5, -1.5, -0.5]]


@pytest.mark.parametrize("gap, lost", [(1.0, 1), (1e-5, 0)])
def test_a_caption_that_parts_at_a_near_tie_is_explained(
    gap: float, lost: int, target: Target, golden: Golden
) -> None:
    log_probs = golden.top_log_probs.copy()
    log_probs[2, 1] = log_probs[2, 0] - gap
    changed = replace(target, golden=replace(golden, top_log_probs=log_probs))
    said = golden.facts.greedy[0]
    tokens = (*said.tokens[:2], int(golden.top_ids[2, 1]), *said.tokens[3:])
    found = [Caption("", tokens, "eos", 0.0)]
    checks = _compared(changed, "greedy", found, golden.facts.greedy[:1])
    figures = {each.figure: each for each in checks}
    assert figures["parted without a near-tie, share"].value == lost
    assert figures["parted at a near-tie"].value == 1 - lost
    assert figures["edit distance, share of tokens"].value == pytest.approx(1 / len(tokens))
    if lost:
        assert figures["parted without a near-tie, share"].worst.startswith("caption 0 parts at")


def test_precision_is_the_share_of_the_dtypes_own_elements() -> None:
    good = precision_check("encoder", "fp16", {"float16": 0.98, "float32": 0.02})
    assert good.passed and good.worst == "float16 98%, float32 2%"
    assert not precision_check("encoder", "fp16", {"float32": 1.0}).passed
    assert not precision_check("head", "int4", {"int8": 1.0}).passed
    # A quantiser leaves convolutions alone.
    assert precision_check("vae_decoder", "int4", {"float32": 1.0}).passed


def test_the_engine_says_what_it_cannot_check(
    target: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("vlv_export.parity.engine._STATUS", tmp_path / "none")
    level = check_engine(target)
    assert level.state == "passed"
    assert level.notes[-1] == "memory over many steps: not run, this system does not tell it"


def test_memory_that_grows_fails_l5(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter([100 * 2**20, 150 * 2**20])
    monkeypatch.setattr("vlv_export.parity.engine._resident", lambda: next(sizes))
    monkeypatch.setattr("vlv_export.parity.engine.STEPS", 40)
    (failed,) = check_engine(target).failures()
    assert failed.output == "memory" and failed.value == 50 * 2**20


def test_writes_elsewhere_than_in_place_fail_l5(proven: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(proven, tmp_path / "OUT"))
    faults.off_by_one(out)
    failed = check(out, "onnx-fp32", ["L5"]).level("L5").failures()
    assert "writes elsewhere than in place" in {each.figure for each in failed}


def test_the_fresh_process_has_no_torch(proven: Path, tmp_path: Path, golden: Golden) -> None:
    code = "import vlv_export.parity.__main__ as m; m.main(); import torch"
    done = subprocess.run(
        [sys.executable, "-c", code, str(proven), "onnx-fp32", str(tmp_path / "a.json"), "1"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert (tmp_path / "a.json").is_file(), done.stderr
    assert "import of torch halted" in done.stderr


def test_a_fresh_process_that_dies_fails_l6(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlv_export.parity.fresh.sys.executable", shutil.which("false"))
    level = check_fresh(target)
    assert level.state == "failed" and "the fresh process ended with 1" in level.reason
