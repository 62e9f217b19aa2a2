"""The machine's rates: the best of two libraries, in every arithmetic that a row may be held to."""

from collections.abc import Callable
from typing import Any

import pytest

from vlv_benchmarks import _ceiling
from vlv_benchmarks.backends import ARITHMETIC
from vlv_benchmarks.job import Job
from vlv_benchmarks.record import Row


def job() -> Job:
    return Job(run="", row=Row(case="prepare", backend="x", label="x", model="mini", threads=1))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ceiling, "EDGE", 64)
    monkeypatch.setattr(_ceiling, "COPIED", 2**12)


def clock(monkeypatch: pytest.MonkeyPatch, *, seconds: list[float]) -> None:
    """Each product is really done, and said to take the next of these."""
    left = iter(seconds)

    def best_seconds(call: Callable[[], Any], *, times: int) -> float:
        call()
        return next(left)

    monkeypatch.setattr(_ceiling, "best_seconds", best_seconds)


def test_every_arithmetic_has_a_rate() -> None:
    facts = _ceiling.run(job()).facts
    assert set(facts) == {*ARITHMETIC.values(), "copy"}
    assert all(float(rate) > 0 for rate in facts.values())


@pytest.mark.parametrize(("torch_s", "onnxruntime_s"), [(2.0, 1.0), (1.0, 2.0)])
def test_float32_is_the_faster_library(
    torch_s: float, onnxruntime_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(monkeypatch, seconds=[torch_s, 0.5, 0.25, onnxruntime_s, 1e-3])
    facts = _ceiling.run(job()).facts
    operations = 2 * 64**3 / 1e9
    assert facts["float32"] == pytest.approx(operations)
    assert facts["bfloat16"] == pytest.approx(2 * operations)
    assert facts["int8"] == pytest.approx(4 * operations)
    assert facts["copy"] == pytest.approx(2 * 2**12 / 1e-3 / 1e9)


def test_without_onnxruntime_it_is_torch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, seconds=[2.0, 0.5, 0.25, 1e-3])
    monkeypatch.setattr(_ceiling, "find_spec", lambda _: None)
    assert _ceiling.run(job()).facts["float32"] == pytest.approx(64**3 / 1e9)
