"""Two runs: what may be compared, what is found, and how the commands end."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks import synthetic
from vlv_benchmarks.cli import app
from vlv_benchmarks.compare import Comparison, compare
from vlv_benchmarks.record import Record, Row, Samples
from vlv_benchmarks.turn import Probe, Rates, Turn
from vlv_core.console import run
from vlv_core.errors import UsageError

OURS, PEER = synthetic.row(), synthetic.row(label="somebody", peer=True, reference=True)
ROWS = [PEER, OURS]


def turns(*, ours: float, peer: float = 30.0, seed: int = 0, count: int = 7) -> list[Turn]:
    return [
        each
        for number in range(count)
        for each in (
            synthetic.turn(PEER, number, ms=peer, noise=0.003, seed=seed, split=False),
            synthetic.turn(OURS, number, ms=ours, noise=0.003, seed=seed, split=False),
        )
    ]


def record(found: list[Turn], rows: list[Row] | None = None) -> Record:
    return synthetic.record(rows or ROWS, found, Samples(turns=len(found), sha256="0"))


def compared(old: list[Turn], new: list[Turn]) -> Comparison:
    return compare(record(old), old, record(new), new)


def slower_machine(found: list[Turn], by: float) -> list[Turn]:
    """The same turns on a machine that is slower by a factor, as its probe says."""

    def slowed(turn: Turn) -> Turn:
        stages = {name: tuple(ms * by for ms in each) for name, each in turn.stages.items()}
        assert turn.probe is not None
        rates = turn.probe.before
        less = Rates(gflops=rates.gflops / by, gbps=rates.gbps / by)
        return replace(turn, stages=stages, probe=Probe(before=less, after=less))

    return [slowed(turn) for turn in found]


def test_the_same_program_is_as_fast_as_before() -> None:
    found = compared(turns(ours=10.0), turns(ours=10.0, seed=1))
    assert [each.verdict for each in found.changes] == ["equal", "equal"]
    assert {each.by for each in found.changes} == {"time"}
    assert (found.gone, found.new) == ((), ())


@pytest.mark.parametrize(("ms", "right"), [(10.5, "slower"), (9.5, "faster")])
def test_a_planted_change_of_five_percent_is_found(ms: float, right: str) -> None:
    peer, ours = compared(turns(ours=10.0), turns(ours=ms, seed=1)).changes
    assert (peer.verdict, ours.verdict) == ("equal", right)
    assert ours.ratio is not None
    assert ours.ratio.median == pytest.approx(10 / ms, rel=0.01)


def test_another_day_on_a_slower_machine_is_compared_by_ratios() -> None:
    new = slower_machine(turns(ours=10.0, seed=1), 1.4)
    peer, ours = compared(turns(ours=10.0), new).changes
    assert (ours.by, ours.verdict) == ("ratio", "equal")
    # the peer has nothing beside it that stayed the same
    assert (peer.by, peer.verdict) == ("nothing", "inconclusive")
    assert peer.reason.startswith("the machine itself changed: its probe's gflops by -28")


def test_a_slowdown_is_found_on_a_slower_machine_too() -> None:
    new = slower_machine(turns(ours=10.8, seed=1), 1.4)
    assert compared(turns(ours=10.0), new).changes[1].verdict == "slower"


def test_without_probes_times_of_two_days_are_not_compared() -> None:
    old = [replace(turn, probe=None) for turn in turns(ours=10.0)]
    peer, ours = compared(old, turns(ours=10.0, seed=1)).changes
    assert ours.by == "ratio"
    assert peer.reason.startswith("no probe says whether the machine ran alike")


def test_too_few_turns_decide_nothing() -> None:
    found = compared(turns(ours=10.0, count=2), turns(ours=20.0, count=2))
    assert [each.verdict for each in found.changes] == ["inconclusive", "inconclusive"]


def test_a_row_that_failed_meanwhile_is_inconclusive_and_says_so() -> None:
    new = turns(ours=10.0)
    new[1] = replace(new[1], stages={}, error="it fell over")
    ours = compared(turns(ours=10.0), new).changes[1]
    assert (ours.verdict, ours.reason) == ("inconclusive", "now failed: it fell over")


def test_what_should_not_vary_is_reported_where_it_did() -> None:
    new = [replace(turn, facts={**turn.facts, "graph_nodes": 430}) for turn in turns(ours=10.0)]
    found = compared(turns(ours=10.0), new)
    assert found.changes[1].facts == ("graph_nodes 412 -> 430",)
    assert compared(new, new).changes[1].facts == ()


def test_other_versions_are_named() -> None:
    found = turns(ours=10.0)
    old = record(found)
    env = replace(old.env, libraries={**old.env.libraries, "torch": "9.9", "gone": "1.0"})
    assert compared(found, found).software == ()
    assert compare(replace(old, env=env), found, old, found).software == (
        "gone 1.0 -> absent",
        f"torch 9.9 -> {old.env.libraries['torch']}",
    )


def test_rows_of_one_run_alone_are_listed() -> None:
    other = synthetic.row(label="new one")
    old, new = turns(ours=10.0), [synthetic.turn(other, i, ms=5.0) for i in range(5)]
    found = compare(record(old), old, record([*old, *new], [OURS, other]), [*old, *new])
    assert [each.key for each in found.changes] == [OURS.key]
    assert (found.gone, found.new) == ((PEER.key,), (other.key,))


def test_runs_without_a_common_row_are_refused() -> None:
    other = synthetic.row(label="other")
    old, new = turns(ours=10.0), [synthetic.turn(other, i, ms=5.0) for i in range(5)]
    with pytest.raises(UsageError, match=r"no row is in both runs: the first has single/somebody"):
        compare(record(old), old, record(new, [other]), new)


def _cpu(old: Record) -> Record:
    return replace(old, env=replace(old.env, cpu_model="Another 9"))


def _gpu(old: Record) -> Record:
    return replace(old, env=replace(old.env, gpu="GeForce"))


def _memory(old: Record) -> Record:
    return replace(old, env=replace(old.env, memory_mb=64000))


def _images(old: Record) -> Record:
    work = replace(old.workload["single"], images_sha256="0" * 64)
    return replace(old, workload={**old.workload, "single": work})


def _tokens(old: Record) -> Record:
    work = replace(old.workload["single"], output_tokens=None)
    return replace(old, workload={**old.workload, "single": work})


def _weights(old: Record) -> Record:
    return replace(old, model={"mini": replace(old.model["mini"], sha256="0" * 64)})


def _quick(old: Record) -> Record:
    return replace(old, run=replace(old.run, quick=True))


@pytest.mark.parametrize(
    ("differently", "field"),
    [
        (_cpu, r"env\.cpu_model: 'Some Processor 8481C @ 2\.70 GHz' and 'Another 9'"),
        (_gpu, r"env\.gpu: None and 'GeForce'"),
        (_memory, r"env\.memory_mb"),
        (_images, r"workload\.single\.images_sha256"),
        (_tokens, r"workload\.single\.output_tokens: 24 and None"),
        (_weights, r"model\.mini\.sha256"),
        (_quick, r"run\.quick: False and True"),
    ],
)
def test_other_hardware_or_work_is_refused_by_its_field(
    differently: Callable[[Record], Record], field: str
) -> None:
    old = turns(ours=10.0)
    with pytest.raises(UsageError, match=f"the runs differ in {field}"):
        compare(record(old), old, differently(record(old)), old)


def test_a_little_less_memory_is_the_same_machine() -> None:
    old = turns(ours=10.0)
    first = record(old)
    second = replace(first, env=replace(first.env, memory_mb=first.env.memory_mb - 12.0))
    assert len(compare(first, old, second, old).changes) == 2


@pytest.mark.parametrize(("ms", "code"), [(10.0, 0), (9.0, 0), (11.0, 5)])
def test_the_exit_code_says_whether_a_row_became_slower(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ms: float, code: int
) -> None:
    old = synthetic.folder(tmp_path / "old", ROWS, turns(ours=10.0))
    new = synthetic.folder(tmp_path / "new", ROWS, turns(ours=ms, seed=1))
    assert run(app, name="vlv-bench", args=["compare", str(old), str(new)]) == code
    said = capsys.readouterr()
    assert f"{PEER.key}: equal, " in said.out
    assert ("1 of 2 rows became slower" in said.err) == (code == 5)


def test_what_cannot_be_decided_exits_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = synthetic.folder(tmp_path / "old", ROWS, turns(ours=10.0, count=2))
    new = synthetic.folder(tmp_path / "new", ROWS, turns(ours=30.0, count=2))
    assert run(app, name="vlv-bench", args=["compare", str(old), str(new)]) == 3
    assert "error: 2 of 2 rows cannot be decided" in capsys.readouterr().err


def test_a_wide_margin_forgives(tmp_path: Path) -> None:
    old = synthetic.folder(tmp_path / "old", ROWS, turns(ours=10.0))
    new = synthetic.folder(tmp_path / "new", ROWS, turns(ours=11.0, seed=1))
    command = ["compare", str(old), str(new), "--margin", "0.3"]
    assert run(app, name="vlv-bench", args=command) == 0


def test_other_hardware_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from vlv_benchmarks.folder import read_record, write_record

    old = synthetic.folder(tmp_path / "old", ROWS, turns(ours=10.0))
    new = synthetic.folder(tmp_path / "new", ROWS, turns(ours=10.0))
    write_record(new, _cpu(read_record(new)))
    assert run(app, name="vlv-bench", args=["compare", str(old), str(new)]) == 2
    assert "error: the runs differ in env.cpu_model" in capsys.readouterr().err


def test_the_last_line_counts_verdicts_and_rows_as_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ours slows by 5 %, and what it is compared with stays."""
    old = synthetic.folder(tmp_path / "old", ROWS, turns(ours=10.0))
    new = synthetic.folder(tmp_path / "new", ROWS, turns(ours=10.5, seed=1))
    run(app, name="vlv-bench", args=["compare", str(old), str(new)])
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("2 rows: 0 faster, 1 slower, ")
    assert said.endswith("; 1 of 2 intervals hold 1.000x")
