"""The gate of the case `decode`, on programs that are right, nearly right and wrong."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from vlv_benchmarks.cases import decode as case
from vlv_benchmarks.cases.decode import (
    COMPARED,
    PROMPTS,
    WARM_TOKENS,
    _judged,
    _quality,
    plan,
    run,
)
from vlv_benchmarks.job import Job, Order
from vlv_benchmarks.peers import PEERS
from vlv_benchmarks.peers._programs import Ids, _made, _program, which
from vlv_benchmarks.peers.prompts import LENGTH, STEP, prompts
from vlv_benchmarks.record import Row
from vlv_core.plugins import load_plugins

OURS = load_plugins(third_party=False)
ROWS = 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Prompts, and what transformers says: each row counts on from its own number."""
    np.save(tmp_path / "prompts.npy", np.arange(ROWS)[:, None] + np.zeros((1, 5), np.int64))
    np.save(tmp_path / "said.npy", np.arange(ROWS)[:, None] + np.arange(32)[None])
    return tmp_path


def judged(folder: Path, *, dtype: str, wrong_rows: int, batch: int = 1) -> str:
    def decode(ids: Ids, tokens: int) -> Ids:
        said = ids[:, :1] + np.arange(tokens)[None]
        return np.where(ids[:, :1] < wrong_rows, 99, said)

    row = Row(case="decode", backend="x", label="x", model="m", dtype=dtype, batch=batch)
    return _quality(Job(run="", row=row), decode, folder).parity


def test_float32_must_say_the_same_and_rounded_weights_mostly(folder: Path) -> None:
    assert judged(folder, dtype="fp32", wrong_rows=0) == "passed"
    assert judged(folder, dtype="fp32", wrong_rows=1) == "failed"
    assert judged(folder, dtype="int4", wrong_rows=ROWS // 2) == "passed"
    assert judged(folder, dtype="int4", wrong_rows=ROWS // 2 + 1) == "failed"
    assert judged(folder, dtype="int8", wrong_rows=ROWS, batch=8) == "failed"


def test_what_follows_a_difference_does_not_count(folder: Path) -> None:
    def decode(ids: Ids, tokens: int) -> Ids:
        said = ids[:, :1] + np.arange(tokens)[None]
        said[:, 0] = 99
        return said

    row = Row(case="decode", backend="x", label="x", model="m", dtype="int4", batch=4)
    found = _quality(Job(run="", row=row), decode, folder)
    assert found.figures == {f"first {COMPARED} tokens before they part": 0.0}


def test_embeddings_are_those_of_the_prompts_that_are_asked() -> None:
    known = np.array([[1, 2], [3, 4], [5, 6]])
    assert which(known, known[[2, 0]]).tolist() == [2, 0]


def test_prompts_are_windows_of_one_text() -> None:
    ids = prompts(lambda texts: [list(range(500)) for _ in texts], 70)
    assert ids.shape == (70, LENGTH) and ids.dtype == np.int64
    assert ids[3, 0] == 3 * STEP
    windows = (500 - LENGTH) // STEP + 1
    assert len(np.unique(ids, axis=0)) == windows and (ids[windows] == ids[0]).all()


def test_a_row_is_judged_again_only_when_it_says_something_else(folder: Path) -> None:
    calls = []

    def decode(ids: Ids, tokens: int) -> Ids:
        calls.append(len(ids))
        return ids[:, :1] + np.arange(tokens)[None]

    def row(label: str) -> Job:
        named = Row(case="decode", backend=label, label=label, model="m", dtype="fp32", batch=4)
        return Job(run="", row=named)

    first = _judged(row("x"), decode, folder, "aa")
    assert first.parity == "passed" and calls == [4] * (ROWS // 4)
    assert _judged(row("x"), decode, folder, "aa") == first and len(calls) == ROWS // 4
    assert _judged(row("x"), decode, folder, "bb") == first and len(calls) == 2 * (ROWS // 4)
    _judged(row("y"), decode, folder, "bb")
    assert len(calls) == 3 * (ROWS // 4), "another row's judgement is not taken"


def test_ours_and_peers_are_rows_of_one_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlv_benchmarks.environment.gpu_there", lambda: False)
    rows = plan(Order(model="mini", plugins=OURS)).rows
    ours = [each.row.label for each in rows if each.row.batch == 1 and not each.row.peer]
    assert ours == ["vlv onnx-fp32", "vlv onnx-int8", "vlv onnx-int4", "vlv torch eager"]
    for batch in (1, 8):
        assert sum(each.row.batch == batch for each in rows) == len(ours) + len(PEERS)
    assert {each.refusal for each in rows if each.row.backend == "vllm"} == {"needs a GPU"}
    assert all(each.settings["prompts"] == PROMPTS for each in rows)
    assert all(bool(each.settings["graphs"]) != bool(each.settings["maker"]) for each in rows)


def test_a_folder_appears_only_when_it_is_full(tmp_path: Path) -> None:
    place = tmp_path / "made"
    with pytest.raises(KeyboardInterrupt), _made(place) as part:
        part.mkdir()
        (part / "half").touch()
        raise KeyboardInterrupt
    assert not place.exists()
    with _made(place) as part:
        part.mkdir()
        (part / "whole").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "whole"]


def test_a_librarys_program_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"python -m absent_program: .*No module named"):
        _program("-m", "absent_program", "-o", Path("x"))


def test_every_row_makes_the_same_number_of_tokens_after_a_shorter_first_call(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def decode(ids: Ids, tokens: int) -> Ids:
        asked.append((len(ids), tokens))
        return ids[:, :1] + np.arange(tokens)[None]

    monkeypatch.setattr(case, "_prepared", lambda job: folder)
    monkeypatch.setattr(case, "_decoder", lambda job, folder: decode)
    (row,) = (
        each
        for each in plan(Order(model="mini", plugins=OURS)).rows
        if (each.row.backend, each.row.batch) == ("transformers", 8)
    )
    found = run(Job(run="", row=row.row, settings=row.settings))
    assert asked[:2] == [(8, WARM_TOKENS), (8, 128)]
    assert asked[2:] == [(8, COMPARED)] * (ROWS // 8)
    assert found.counts == {"tokens": 8 * 128} and not found.work
    assert len(found.stages["total"]) == len(found.discarded["total"]) == 1
    assert found.facts["transformers version"] == version("transformers")
    assert found.quality.parity == "passed" and found.output_sha256
