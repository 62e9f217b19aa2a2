"""A run is held to what may not vary, and to no more than its machine can promise."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks import synthetic
from vlv_benchmarks.cli import app
from vlv_benchmarks.folder import read_record
from vlv_benchmarks.gate import Due, Expected, expected_of, gate, read_expected, write_expected
from vlv_benchmarks.record import Record
from vlv_core.console import run
from vlv_core.errors import DataError


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run of torch and of one variant, all well."""
    rows, turns = synthetic.afternoon()
    kept = [each for each in rows if each.label in ("torch eager", "vlv onnx int8")
            and each.case == "single"]  # fmt: skip
    keys = {each.key for each in kept}
    return synthetic.folder(tmp_path / "OUT", kept, [each for each in turns if each.row in keys])


@pytest.fixture
def record(out: Path) -> Record:
    return read_record(out)


def with_row(record: Record, change: Callable[[Due], Due], index: int = 1) -> Expected:
    """What is due, of one row otherwise."""
    due = expected_of(record)
    key = list(due.rows)[index]
    return replace(due, rows={**due.rows, key: change(due.rows[key])})


def test_a_run_is_what_it_says_itself(record: Record) -> None:
    found = gate(record, expected_of(record))
    assert (found.wrong, found.untold, found.rows) == ((), (), 2)
    rows = expected_of(record).rows.values()
    assert all(each.facts and each.operations and each.bytes and each.outputs for each in rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda due: replace(due, facts={**due.facts, "graph_nodes": 654}),
         "graph_nodes is 655, due 654"),
        (lambda due: replace(due, facts={**due.facts, "head_nodes": 9}),
         "head_nodes is absent, due 9"),
        (lambda due: replace(due, facts={"graph_nodes": 655}),
         "tokens_per_caption is 24, due absent"),
        (lambda due: replace(due, operations={**due.operations, "encode": 1.0}),
         "operations of encode is 350000000.0, due 1.0"),
        (lambda due: replace(due, bytes={**due.bytes, "prefill": 1.0}),
         "bytes of prefill is 4000000.0, due 1.0"),
        (lambda due: replace(due, outputs=("ab" * 32,)), "outputs have the sha256"),
        (lambda due: replace(due, ratio=30.0),
         "speed against its reference is 2.73, due at least 10.00"),
    ],
)  # fmt: skip
def test_every_difference_is_told(record: Record, change: Callable[[Due], Due], said: str) -> None:
    (found,) = gate(record, with_row(record, change)).wrong
    assert said in found and record.result[1].row.key in found


def test_noise_of_a_shared_machine_is_no_difference(record: Record) -> None:
    def hoped(due: Due) -> Due:
        assert due.ratio
        return replace(due, ratio=2.5 * due.ratio)

    assert not gate(record, with_row(record, hoped)).wrong


@pytest.mark.parametrize(("size", "said"), [(1.015e6, ()), (1.03e6, ("artefact_bytes",))])
def test_files_may_grow_a_little(record: Record, size: float, said: tuple[str, ...]) -> None:
    result = record.result[1]
    now = replace(result, facts={**result.facts, "artefact_bytes": size})
    due = with_row(record, lambda due: replace(due, facts={**due.facts, "artefact_bytes": 1e6}))
    found = gate(replace(record, result=(record.result[0], now)), due).wrong
    assert len(found) == len(said) and all(name in found[0] for name in said)


def test_rows_that_are_gone_failed_or_another_models_are_told(record: Record) -> None:
    due = expected_of(record)
    first, second = record.result
    failed = replace(second, status="failed", reason="the pictures are gone")
    (said,) = gate(replace(record, result=(first, failed)), due).wrong
    assert said.endswith("failed: the pictures are gone")
    (said,) = gate(replace(record, result=(first,)), due).wrong
    assert said.endswith("it is no row of this run")
    (said,) = gate(record, replace(due, models={"mini": "0" * 64})).wrong
    assert "model mini has the sha256" in said and "due 000000000000" in said


def test_a_new_row_is_not_judged(record: Record) -> None:
    due = expected_of(record)
    fewer = dict(list(due.rows.items())[:1])
    assert not gate(record, replace(due, rows=fewer)).wrong


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"libraries": {"numpy": "2.3.1", "onnxruntime": "1.30", "torch": "2.13.0"}},
         "onnxruntime is 1.31.1, and 1.30 made what is due"),
        ({"libraries": {"numpy": "2.3.1", "torch": "2.13.0"}}, "onnxruntime is 1.31.1, and absent"),
        ({"cpu_isa": ("avx2",)}, "the processors differ in amx_int8, avx512_vnni, avx512f"),
        ({"cpu": "Other"}, "the processor is of Some, and one of Other made"),
    ],
)  # fmt: skip
def test_what_rounding_decides_is_not_compared_elsewhere(
    record: Record, change: dict[str, object], said: str
) -> None:
    def rounded(due: Due) -> Due:
        return replace(
            due,
            outputs=("ab",),
            facts={**due.facts, "tokens_per_caption": 25, "step_kib": 3.0},
            bytes={**due.bytes, "decode": 1.0},
        )

    due = with_row(record, rounded)
    assert len(gate(record, due).wrong) == 4
    found = gate(record, replace(due, **change))  # type: ignore[arg-type]
    assert not found.wrong
    (untold,) = found.untold
    assert said in untold
    # what a graph is made of is the same everywhere
    other = replace(due, **change, rows=with_row(  # type: ignore[arg-type]
        record, lambda due: replace(due, facts={**due.facts, "graph_nodes": 1})).rows)  # fmt: skip
    assert len(gate(record, other).wrong) == 1


def test_a_file_is_what_was_written(record: Record, tmp_path: Path) -> None:
    due = expected_of(record)
    write_expected(tmp_path / "new" / "due.json", due)
    assert read_expected(tmp_path / "new" / "due.json") == due


def test_nobody_is_held_to_a_run_that_failed(record: Record) -> None:
    failed = replace(record.result[1], status="failed", reason="parity: other words")
    with pytest.raises(DataError, match=r"1 rows failed, such as .*parity: other words"):
        expected_of(replace(record, result=(record.result[0], failed)))


@pytest.mark.parametrize(
    ("text", "said"), [(None, "is not there"), ("{", "is no file of what is due"),
                       ('{"rows": {}}', "is no file of what is due")],
)  # fmt: skip
def test_a_file_that_is_none_is_refused(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "due.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_expected(path)


def test_the_command_writes_compares_and_tells(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    due = tmp_path / "due.json"
    args = ["gate", str(out), str(due)]
    assert run(app, name="vlv-bench", args=args) == 2
    assert "--write makes it of this run" in capsys.readouterr().err
    assert run(app, name="vlv-bench", args=[*args, "--write"]) == 0
    assert "what is due of 2 rows" in capsys.readouterr().out
    assert run(app, name="vlv-bench", args=args) == 0
    assert "2 rows are what" in capsys.readouterr().out
    doctored = json.loads(due.read_text())
    for each in doctored["rows"].values():
        each["facts"]["graph_nodes"] = 7
    due.write_text(json.dumps({**doctored, "cpu": "Other"}))
    assert run(app, name="vlv-bench", args=args) == 5
    said = capsys.readouterr()
    assert said.out.startswith("outputs and what follows from them are not compared")
    assert said.out.count("differs: ") == 2 and "2 counts of" in said.err
