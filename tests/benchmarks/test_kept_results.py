"""benchmarks/results: every figure that the docs show follows from raw samples that are kept."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.benchmarks import synthetic
from vlv_benchmarks.folder import read_record, read_turns
from vlv_benchmarks.report import write_report
from vlv_benchmarks.statistics import FEWEST_TURNS
from vlv_benchmarks.verify import mismatches

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
FOLDERS = sorted(each for each in RESULTS.iterdir() if each.is_dir())


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """docs/benchmarks.py, keeping in a folder of the test."""
    spec = importlib.util.spec_from_file_location("kept_results", ROOT / "docs" / "benchmarks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "kept_results", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    return module


def afternoon(folder: Path, *, quick: bool = False) -> Path:
    rows, turns = synthetic.afternoon()
    out = synthetic.folder(folder, rows, turns, quick=quick)
    write_report(out)
    return out


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda each: each.name)
def test_what_is_kept_follows_from_its_samples(folder: Path) -> None:
    assert mismatches(folder) == []
    record = read_record(folder)
    assert not record.run.quick
    assert not record.run.git_dirty
    assert {turn.turn for turn in read_turns(folder)} == set(range(FEWEST_TURNS))


def test_each_name_is_kept_once() -> None:
    names = [each.name.rpartition("_")[0] for each in FOLDERS]
    assert len(names) == len(set(names))
    assert names


def test_a_run_is_kept_in_place_of_the_older_one(tmp_path: Path, keeper: ModuleType) -> None:
    older = tmp_path / "results" / "mini_cpu_20200101"
    older.mkdir(parents=True)
    kept = keeper.keep(afternoon(tmp_path / "run"), "mini")
    assert kept == keeper.newest("mini")
    assert not older.exists()
    assert sorted(each.name for each in kept.iterdir()) == sorted(keeper.KEPT)
    assert mismatches(kept) == []


def test_a_quick_run_is_not_kept(tmp_path: Path, keeper: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"is not to be kept: a quick run"):
        keeper.keep(afternoon(tmp_path / "run", quick=True), "mini")


def test_a_run_whose_samples_say_otherwise_is_not_kept(tmp_path: Path, keeper: ModuleType) -> None:
    out = afternoon(tmp_path / "run")
    samples = out / "samples.jsonl"
    samples.write_bytes(samples.read_bytes().replace(b'"turn": 0', b'"turn": 90', 1))
    with pytest.raises(ValueError, match=r"is not to be kept: \['samples.jsonl is not the file"):
        keeper.keep(out, "mini")


def test_a_name_that_is_not_kept_is_an_error(keeper: ModuleType) -> None:
    with pytest.raises(FileNotFoundError, match=r"results holds no mini_\*"):
        keeper.newest("mini")


def test_a_headline_is_the_ratio_in_pairs(
    tmp_path: Path, keeper: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made from the raw samples by hand."""
    from statistics import median

    kept = keeper.keep(afternoon(tmp_path / "run"), "mini")
    line = keeper.Line("a picture", "mini", "single", "vlv onnx fp32", "torch eager")
    monkeypatch.setattr(keeper, "LINES", (line,))
    ms: dict[str, dict[int, float]] = {}
    for turn in read_turns(kept):
        if turn.row.startswith("single/") and "/b1/" in turn.row and turn.stages:
            ms.setdefault(turn.row.split("/")[1], {})[turn.turn] = median(turn.stages["total"])
    ratios = [ms["torch-eager"][n] / ms["vlv-onnx-fp32"][n] for n in ms["torch-eager"]]
    *_, last = keeper.headlines()
    assert last.startswith("| a picture | onnx fp32 | ")
    assert f"| torch eager | {median(ratios):.2f} (" in last
