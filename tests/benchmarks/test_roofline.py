"""Bounds of stages worked out by hand, and the sentence on what bounds a row."""

from dataclasses import replace

import pytest

from tests.benchmarks import synthetic
from vlv_benchmarks.record import Bound, Ceiling, Latency, Result
from vlv_benchmarks.roofline import bounds, least_ms, sentence
from vlv_benchmarks.turn import Turn, Work

CEILING = Ceiling(gflops={"float32": 100.0, "int8": 400.0}, gbps=20.0, measured="by hand")


def turn(number: int = 0, *, elapsed_ms: float | None = None, **stages: float) -> Turn:
    """Two equal calls of these stages; the whole is their sum and 1 ms."""
    total = sum(stages.values()) + 1.0
    return Turn(
        row="r",
        turn=number,
        started="",
        stages={"total": (total, total), **{name: (ms, ms) for name, ms in stages.items()}},
        elapsed_ms=elapsed_ms,
        work={
            "encode": Work(operations=1.0e9, bytes=20e6),
            "decode": Work(operations=0.04e9, bytes=80e6, arithmetic="int8"),
        },
    )


def result(*turns: Turn) -> Result:
    """A row with the figures that a sentence is made of."""
    first = turns[0]
    latency = {
        name: Latency(n=2, median=ms[0], low=ms[0], high=ms[0], p50=ms[0], mean=ms[0])
        for name, ms in first.stages.items()
    }
    found = bounds(turns, CEILING)
    return Result(row=synthetic.row(), status="ok", latency_ms=latency, roofline=found)


def test_the_nearer_roof_bounds() -> None:
    assert least_ms(Work(operations=1e9, bytes=20e6), CEILING) == (10.0, "compute")
    assert least_ms(Work(operations=1e9, bytes=400e6), CEILING) == (20.0, "memory")
    assert least_ms(Work(operations=1e9, bytes=20e6, arithmetic="int8"), CEILING)[0] == 2.5


def test_bounds_of_stages_are_of_a_call() -> None:
    found = bounds([turn(encode=10.0, decode=4.0)], CEILING)
    assert found["encode"] == Bound(bound="compute", arithmetic="float32", operations=0.5e9,
                                    bytes=10e6, t_bound_ms=5.0, share=0.5)  # fmt: skip
    assert found["decode"] == Bound(bound="memory", arithmetic="int8", operations=0.02e9,
                                    bytes=40e6, t_bound_ms=2.0, share=0.5)  # fmt: skip


def test_the_whole_is_bounded_by_the_sum() -> None:
    whole = bounds([turn(encode=10.0, decode=4.0)], CEILING)["total"]
    assert whole.t_bound_ms == 7.0
    assert whole.share == pytest.approx(7 / 15)
    assert (whole.operations, whole.bytes) == (0.52e9, 50e6)
    # the stage that takes the longest at best
    assert whole.bound == "compute"


def test_work_of_the_whole_call_stands_as_it_is_stated() -> None:
    stated = replace(turn(encode=9.0), work={"total": Work(operations=1e9, bytes=1.0)})
    assert bounds([stated], CEILING) == {
        "total": Bound(bound="compute", arithmetic="float32", operations=0.5e9, bytes=0.5,
                       t_bound_ms=5.0, share=0.5)
    }  # fmt: skip


def test_calls_that_overlap_are_measured_by_the_wall_clock() -> None:
    stated = replace(
        turn(encode=9.0, elapsed_ms=12.0), work={"total": Work(operations=1e9, bytes=1.0)}
    )
    assert bounds([stated], CEILING)["total"].share == pytest.approx(10 / 12)


def test_one_slow_turn_does_not_move_the_share() -> None:
    turns = [turn(i, encode=10.0, decode=4.0) for i in range(4)]
    slow = turn(4, encode=90.0, decode=40.0)
    assert bounds([*turns, slow], CEILING)["encode"].share == 0.5


def test_what_is_not_stated_or_not_measured_has_no_bound() -> None:
    assert bounds([turn(encode=1.0)], None) == {}
    assert bounds([], CEILING) == {}
    without_int8 = replace(CEILING, gflops={"float32": 100.0})
    assert set(bounds([turn(encode=10.0, decode=4.0)], without_int8)) == {"encode", "total"}
    # a stage with stated work that was not timed
    assert set(bounds([turn(encode=10.0)], CEILING)) == {"encode", "total"}
    assert bounds([replace(turn(encode=10.0), work={})], CEILING) == {}


def test_a_stage_must_be_stated_in_every_turn() -> None:
    turns = [turn(0, encode=10.0, decode=4.0), replace(turn(1, encode=10.0, decode=4.0), work={})]
    assert bounds(turns, CEILING) == {}


def test_the_sentence_names_the_stage_with_most_to_win() -> None:
    # encode stands 5 ms above its bound, decode 18
    said = sentence(result(turn(encode=10.0, decode=20.0)))
    assert said == (
        "decode takes 65% of the time, bound by memory traffic, at 10% of what this machine can; "
        "at the bound a call is 2.38x as fast"
    )


def test_the_sentence_says_when_little_is_left() -> None:
    said = sentence(result(turn(encode=5.5, decode=2.1)))
    assert said.startswith("encode takes 64% of the time, bound by arithmetic, at 91%")
    assert said.endswith("little is left to win there")


def test_the_sentence_says_when_a_cache_helped() -> None:
    stated = replace(turn(encode=9.0), work={"total": Work(bytes=800e6)})
    only = replace(stated, stages={"total": stated.stages["total"]})
    said = sentence(result(only))
    assert said.startswith("bound by memory traffic, at 200% of the measured ceiling: caches")


def test_the_sentence_admits_what_nobody_stated() -> None:
    silent = replace(turn(encode=1.0, read=30.0), work={})
    said = sentence(result(silent))
    assert said == "read takes 94% of the time, no bound is known: its least work is not stated"
    whole = replace(silent, stages={"total": (3.0, 3.0)})
    assert sentence(result(whole)) == "no bound is known: its least work is not stated"


def test_the_sentence_of_a_row_without_times_is_its_reason() -> None:
    gone = Result(row=synthetic.row(), status="not run", reason="no GPU")
    assert sentence(gone) == "not run: no GPU"
