"""The gate of the case `decode`, on programs that are right, nearly right and wrong."""

from pathlib import Path

import numpy as np
import pytest

from vlv_benchmarks.cases.decode import COMPARED, _quality
from vlv_benchmarks.job import Job
from vlv_benchmarks.peers._programs import Ids, _which
from vlv_benchmarks.peers.prompts import LENGTH, prompts
from vlv_benchmarks.record import Row

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
    assert _which(known, known[[2, 0]]).tolist() == [2, 0]


def test_prompts_are_windows_of_one_text() -> None:
    ids = prompts(lambda texts: [list(range(500)) for _ in texts], 70)
    assert ids.shape == (70, LENGTH) and ids.dtype == np.int64
    assert ids[3, 0] == 3 and (ids[64] == ids[0]).all()
