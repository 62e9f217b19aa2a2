"""The record, its files, and the schema that ships with it."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.benchmarks import synthetic
from vlv_benchmarks import folder
from vlv_benchmarks.record import Latency, Result, Row, reference
from vlv_benchmarks.schema import SHIPPED, schema, text
from vlv_benchmarks.turn import Turn
from vlv_core.errors import DataError

ROW = synthetic.row()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.folder(tmp_path_factory.mktemp("runs") / "OUT", *synthetic.afternoon())


def test_a_record_reads_back_as_it_was_written(run: Path) -> None:
    rows, turns = synthetic.afternoon()
    assert folder.read_turns(run) == turns
    again = synthetic.record(rows, turns, folder.samples_of(run, turns))
    assert folder.read_record(run) == again


def test_the_shipped_schema_is_that_of_the_classes() -> None:
    assert SHIPPED.read_text() == text(), "python -m vlv_benchmarks.schema writes it again"


def test_the_schema_is_a_schema_and_describes_fields() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    turn = schema()["$defs"]["Turn"]
    assert turn["properties"]["turn"]["description"].startswith("0 for the first")
    assert turn["required"] == ["row", "turn", "started"]


def test_what_is_written_satisfies_the_shipped_schema(run: Path) -> None:
    shipped = json.loads(SHIPPED.read_text())
    jsonschema.validate(json.loads((run / "bench.json").read_text()), shipped)
    of_turn = jsonschema.Draft202012Validator({**shipped, "$ref": "#/$defs/Turn"})
    for line in (run / "samples.jsonl").read_text().splitlines()[::7]:
        of_turn.validate(json.loads(line))


def _drop(data: dict[str, Any]) -> None:
    del data["run"]["seed"]


def _unknown(data: dict[str, Any]) -> None:
    data["env"]["colour"] = "red"


def _wrong_type(data: dict[str, Any]) -> None:
    data["ceiling"]["cpu"]["gbps"] = "fast"


def _wrong_status(data: dict[str, Any]) -> None:
    data["result"][0]["status"] = "fine"


def _other_schema(data: dict[str, Any]) -> None:
    data["schema"] = "vlv-bench/0"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_drop, r"bench.json: run: key 'seed' missing|run.*'seed'"),
        (_unknown, "no key 'colour'"),
        (_wrong_type, "expected a number, got 'fast'"),
        (_wrong_status, "expected 'ok' or 'not run' or 'failed' or 'unstable', got 'fine'"),
        (_other_schema, "expected 'vlv-bench/1', got 'vlv-bench/0'"),
    ],
)
def test_classes_and_schema_refuse_the_same(
    run: Path, tmp_path: Path, damage: Callable[[dict[str, Any]], None], said: str
) -> None:
    data = json.loads((run / "bench.json").read_text())
    damage(data)
    (tmp_path / "bench.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=said):
        folder.read_record(tmp_path)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, schema())


def test_an_absent_record_is_refused_with_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no bench\.json") as refusal:
        folder.read_record(tmp_path)
    assert "vlv-bench run" in (refusal.value.hint or "")


def test_a_record_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text("{")
    with pytest.raises(DataError, match=r"bench\.json: no JSON"):
        folder.read_record(tmp_path)


def test_the_key_of_a_row_tells_all_apart_but_what_people_read() -> None:
    assert ROW.key == "single/vlv-onnx-fp32/mini/fp32/b1/cpu/t2"
    assert replace(ROW, label="other", peer=True, reference=True).key == ROW.key
    changed = (
        replace(ROW, batch=2), replace(ROW, dtype="int8"), replace(ROW, threads=1),
        replace(ROW, case="offline"), replace(ROW, options={"steps": 4, "guidance": 1.5}),
    )  # fmt: skip
    assert len({ROW.key, *(each.key for each in changed)}) == 6
    assert changed[-1].key.endswith("/guidance=1.5/steps=4")


def test_rows_are_compared_within_what_does_the_same_work() -> None:
    eager, ours, other = (synthetic.row(label=label) for label in ("eager", "ours", "other"))
    peer, batched = synthetic.row(label="peer", peer=True), synthetic.row(label="b", batch=4)
    assert reference([peer, eager, ours, batched], ours) == eager
    assert reference([peer, eager, ours, batched], peer) == eager
    assert reference([peer, eager, ours, batched], eager) is None
    assert reference([peer, eager, ours, batched], batched) is None
    assert reference([eager, ours, replace(other, reference=True)], eager).key == other.key  # type: ignore[union-attr]
    assert reference([peer, replace(peer, backend="q")], peer) is None


def test_times_of_rows_that_say_wrong_things_may_not_be_printed() -> None:
    total = Latency(n=1, median=1.0, low=1.0, high=1.0, p50=1.0, mean=1.0)
    done = Result(row=ROW, status="ok", latency_ms={"total": total})
    assert done.timed
    assert not replace(done, latency_ms={}).timed
    assert replace(done, status="unstable").timed
    assert not replace(done, quality=synthetic.WRONG).timed
    assert not replace(done, status="failed").timed
    assert not replace(done, status="not run").timed


@pytest.mark.parametrize("stages", [{}, {"decode": (1.0,)}, {"total": ()}])
def test_a_turn_without_a_whole_call_is_refused(stages: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match="turn 3 of x has no samples of 'total'"):
        Turn(row="x", turn=3, started="", stages=stages)
    assert Turn(row="x", turn=3, started="", stages=stages, error="it fell").error


@pytest.mark.parametrize("ms", [0.0, -1.0, math.inf, math.nan])
def test_times_that_cannot_be_are_refused(ms: float) -> None:
    with pytest.raises(ValueError, match="turn 0 of x: 'total' has a time that is no time"):
        Turn(row="x", turn=0, started="", stages={"total": (1.0, ms)})
    with pytest.raises(ValueError, match="'encode' has a time that is no time"):
        Turn(row="x", turn=0, started="", stages={"total": (1.0,)}, discarded={"encode": (ms,)})


def test_calls_that_overlap_are_counted_by_the_wall_clock() -> None:
    turn = Turn(row="x", turn=0, started="", stages={"total": (400.0, 600.0)})
    assert turn.seconds == 1.0
    assert replace(turn, elapsed_ms=500.0).seconds == 0.5


def test_a_torn_line_is_left_out_and_mended(tmp_path: Path) -> None:
    turns = [synthetic.turn(ROW, number, ms=10.0) for number in range(3)]
    for each in turns[:2]:
        folder.append_turn(tmp_path, each)
    path = tmp_path / "samples.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    assert folder.read_turns(tmp_path) == turns[:1]
    folder.append_turn(tmp_path, turns[2])
    assert folder.read_turns(tmp_path) == [turns[0], turns[2]]


def test_no_samples_yet_are_no_turns(tmp_path: Path) -> None:
    assert folder.read_turns(tmp_path) == []
    with pytest.raises(DataError, match=r"holds no samples\.jsonl"):
        folder.samples_of(tmp_path, [])


def test_a_line_that_is_no_turn_is_named(tmp_path: Path) -> None:
    folder.append_turn(tmp_path, synthetic.turn(ROW, 0, ms=10.0))
    path = tmp_path / "samples.jsonl"
    path.write_text(path.read_text() + '{"row": "x", "turn": "first", "started": ""}\n')
    with pytest.raises(DataError, match=r"samples\.jsonl:2.*turn: expected an integer"):
        folder.read_turns(tmp_path)


def test_a_turn_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    for _ in range(2):
        folder.append_turn(tmp_path, synthetic.turn(ROW, 4, ms=10.0))
    with pytest.raises(DataError, match=r"turn 4 of single/.* stands there twice"):
        folder.read_turns(tmp_path)


def test_figures_that_json_has_no_word_for_are_not_written(tmp_path: Path) -> None:
    turn = replace(synthetic.turn(ROW, 0, ms=10.0), facts={"nodes": math.inf})
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.append_turn(tmp_path, turn)
    assert folder.read_turns(tmp_path) == []


def test_row_needs_no_more_than_its_names() -> None:
    assert Row(case="c", backend="b", label="l", model="m").key == "c/b/m/b1/cpu/t1"
