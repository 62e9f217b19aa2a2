"""From raw samples to results: every state that a row can be in, and figures worked out by hand."""

from dataclasses import replace

import pytest

from tests.benchmarks import synthetic
from vlv_benchmarks.record import Measure, Result, Row
from vlv_benchmarks.results import summarise
from vlv_benchmarks.turn import Parity, Probe, Quality, Rates, Turn

ROW, PEER = synthetic.row(), synthetic.row(label="somebody", peer=True)


def turn(of: Row, number: int, *ms: float, **more: object) -> Turn:
    made = Turn(row=of.key, turn=number, started="", stages={"total": ms})
    return replace(made, **more)  # type: ignore[arg-type]


def summary(rows: list[Row], turns: list[Turn], **refused: str) -> list[Result]:
    return [*summarise(rows, turns, refused=refused, ceiling=synthetic.CEILING, seed=0)]


def test_the_figures_of_a_row() -> None:
    turns = [
        turn(ROW, 0, 10.0, 12.0, 11.0, counts={"images": 6, "tokens": 33}, peak_memory_mb=200,
             discarded={"total": (50.0, 20.0)}),
        turn(ROW, 1, 20.0, 20.0, 20.0, counts={"images": 6, "tokens": 60}, peak_memory_mb=260,
             discarded={"total": (50.0,)}),
        turn(ROW, 2, 13.0, 13.0, 40.0, counts={"images": 6, "tokens": 66}, peak_memory_mb=230),
    ]  # fmt: skip
    (only,) = summary([ROW], turns)
    assert (only.status, only.reason, only.turns, only.n, only.discarded) == ("ok", "", 3, 9, 3)
    total = only.latency_ms["total"]
    # medians of turns: 11, 20, 13
    assert (total.median, total.low, total.high) == (13.0, 11.0, 20.0)
    assert (total.n, total.p50, total.p90, total.p99) == (9, 13.0, None, None)
    assert total.mean == pytest.approx(159 / 9)
    # 33 ms, 60 ms and 66 ms
    assert only.throughput.images_per_s == pytest.approx(100.0)
    assert only.throughput.tokens_per_s == pytest.approx(1000.0)
    assert only.memory_mb == 260
    assert only.ratio is None


def test_rates_of_calls_that_overlap() -> None:
    (only,) = summary([ROW], [turn(ROW, 0, 100.0, 100.0, elapsed_ms=120.0, counts={"images": 12})])
    assert only.throughput.images_per_s == pytest.approx(100.0)
    assert only.throughput.tokens_per_s is None


def test_rows_that_did_not_run_say_why() -> None:
    refused, waiting = summary([ROW, PEER], [], **{ROW.key: "no such variant"})
    assert (refused.status, refused.reason) == ("not run", "no such variant")
    assert (waiting.status, waiting.reason) == ("not run", "no turn has ended yet")


def test_a_row_that_ran_cannot_be_called_not_run() -> None:
    (only,) = summary([ROW], [turn(ROW, 0, 10.0)], **{ROW.key: "it looks bad"})
    assert only.status == "ok"


def test_one_failed_turn_fails_the_row() -> None:
    broken = Turn(row=ROW.key, turn=1, started="", error="out of memory after 3 s")
    (only,) = summary([ROW], [turn(ROW, 0, 10.0), broken])
    assert (only.status, only.reason, only.turns) == ("failed", "out of memory after 3 s", 2)
    assert not only.latency_ms


def test_a_row_that_says_wrong_things_has_no_times() -> None:
    right = Quality(parity="passed")
    turns = [turn(ROW, 0, 10.0, quality=right), turn(ROW, 1, 10.0, quality=synthetic.WRONG)]
    (only,) = summary([ROW], turns)
    assert only.status == "failed"
    assert only.reason == "parity: captions equal in 61 %, allowed 90 %"
    assert not only.latency_ms
    assert only.throughput.images_per_s is None
    assert only.memory_mb is None


def test_a_failure_without_words_has_some() -> None:
    (only,) = summary([ROW], [turn(ROW, 0, 10.0, quality=Quality(parity="failed"))])
    assert only.reason == "parity: not what the reference says"


@pytest.mark.parametrize("said", ["passed", "failed"])
def test_a_turn_that_judged_nothing_leaves_the_word_to_the_others(said: Parity) -> None:
    judged, unknown = Quality(parity=said), Quality()
    (only,) = summary(
        [ROW], [turn(ROW, 0, 1.0, quality=judged), turn(ROW, 1, 1.0, quality=unknown)]
    )
    assert only.quality.parity == said


def probe(change: float) -> Probe:
    before = Rates(gflops=100, gbps=10)
    return Probe(before=before, after=Rates(gflops=100 * (1 + change), gbps=10))


def test_a_machine_that_changed_makes_a_row_unstable() -> None:
    (steady,) = summary([ROW], [turn(ROW, i, 10.0, probe=probe(0.02)) for i in range(5)])
    (moved,) = summary([ROW], [turn(ROW, i, 10.0, probe=probe(-0.05)) for i in range(5)])
    assert (steady.status, steady.drift) == ("ok", pytest.approx(0.02))
    assert moved.status == "unstable"
    assert moved.reason == "the probe drifted by 5.0%, allowed 3%"
    assert moved.timed
    (blind,) = summary([ROW], [turn(ROW, 0, 10.0)])
    assert (blind.status, blind.drift) == ("ok", None)


def test_ratios_are_taken_in_pairs() -> None:
    ours = [turn(ROW, i, 10.0 * (1 + i)) for i in range(5)]
    theirs = [turn(PEER, i, 15.0 * (1 + i)) for i in range(5)]
    first, second = summary([ROW, PEER], [*ours, *theirs])
    assert first.ratio is None
    assert second.ratio is not None
    assert second.ratio.to == ROW.key
    assert (second.ratio.pairs, second.ratio.verdict) == (5, "slower")
    assert second.ratio.median == pytest.approx(2 / 3)
    assert second.ratio.low == pytest.approx(second.ratio.high)


def test_there_is_no_ratio_to_a_row_that_failed() -> None:
    ours = [turn(ROW, i, 10.0, quality=synthetic.WRONG) for i in range(5)]
    theirs = [turn(PEER, i, 15.0) for i in range(5)]
    assert summary([ROW, PEER], [*ours, *theirs])[1].ratio is None
    assert summary([ROW, PEER], theirs)[1].ratio is None


def test_figures_of_a_case_alone_are_medians_over_turns() -> None:
    turns = [turn(ROW, i, 9.0, measures={"goodput_per_s": 4.0 + i, "rare": 1.0}) for i in range(3)]
    turns.append(turn(ROW, 3, 9.0, measures={"goodput_per_s": 50.0}))
    (only,) = summary([ROW], turns)
    assert only.measures == {"goodput_per_s": Measure(median=5.5, low=4.0, high=50.0)}


def test_only_stages_that_every_turn_has_are_summed_up() -> None:
    turns = [
        turn(ROW, 0, 9.0, stages={"total": (9.0,), "encode": (5.0,), "read": (1.0,)}),
        turn(ROW, 1, 9.0, stages={"total": (9.0,), "encode": (6.0,)}),
    ]
    assert set(summary([ROW], turns)[0].latency_ms) == {"total", "encode"}


def test_facts_that_vary_are_shown_to_vary() -> None:
    turns = [
        turn(ROW, 0, 9.0, facts={"nodes": 7, "allocations": 3}, output_sha256="b"),
        turn(ROW, 1, 9.0, facts={"nodes": 7, "allocations": 4}, output_sha256="a"),
        turn(ROW, 2, 9.0, facts={"nodes": 7}, output_sha256="a"),
    ]
    (only,) = summary([ROW], turns)
    assert only.facts == {"nodes": 7, "allocations": "varies: 3, 4, absent"}
    assert only.output_sha256 == ("a", "b")


def test_counts_of_states_add_up() -> None:
    rows, turns = synthetic.afternoon()
    refused = {each.key: "no" for each in rows if each.label == "torch.compile"}
    results = summarise(rows, turns, refused=refused, ceiling=synthetic.CEILING, seed=0)
    assert [each.row for each in results] == rows
    states = [each.status for each in results]
    assert {state: states.count(state) for state in sorted(set(states))} == {
        "failed": 2, "not run": 1, "ok": 14, "unstable": 1,
    }  # fmt: skip
