"""The whole chain on rows that sleep: what is planted is found, and nothing that breaks loses
anything."""

import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks import toy_runs
from tests.benchmarks.toy_runs import measure, order
from vlv_benchmarks.folder import SAMPLES, read_record, read_turns
from vlv_benchmarks.job import Planned
from vlv_benchmarks.record import Row
from vlv_benchmarks.runner import Watcher, schedule
from vlv_benchmarks.turn import Turn
from vlv_benchmarks.verify import mismatches
from vlv_core.errors import UsageError


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    toy_runs.still(monkeypatch)


class Told(Watcher):
    def __init__(self) -> None:
        self.turns: list[tuple[str, int]] = []
        self.begun: tuple[int, int] | None = None

    def begin(self, total: int, done: int) -> None:
        self.begun = total, done

    def turn(self, planned: Planned, turn: Turn, seconds: float) -> None:
        self.turns.append((planned.row.backend, turn.turn))


def test_a_planted_slow_row_is_found_by_the_whole_chain(tmp_path: Path) -> None:
    outcome = measure(order(turns=5), tmp_path / "out")
    steady, slow = outcome.record.result
    assert outcome.complete and (steady.status, slow.status) == ("ok", "ok")
    assert steady.ratio is None and slow.ratio is not None
    assert slow.ratio.to == steady.row.key and slow.ratio.pairs == 5
    assert slow.ratio.verdict == "slower" and 0.55 < slow.ratio.median < 0.8
    assert slow.latency_ms["total"].median > 30
    assert "slower" in (tmp_path / "out" / "REPORT.md").read_text()
    assert not mismatches(tmp_path / "out")
    assert not (tmp_path / "out" / "work").exists()


REASONS = {
    "crash": r"ended by signal 11 after",
    "hang": r"ended after 3 s without an answer",
    "quit": r"ended with code 3: the last words",
    "raise": r"^the pictures are gone$",
    "bug": r"^KeyError: 'x'$",
    "nan": r"^ValueError: .* is no time",
}


def test_what_breaks_becomes_a_reason_and_loses_nothing(tmp_path: Path) -> None:
    told = Told()
    names = ("steady", *REASONS, "wrong", "refused")
    outcome = measure(order(*names, turns=2), tmp_path / "out", watcher=told)
    found = {each.row.backend: each for each in outcome.record.result}
    assert outcome.complete and list(found) == list(names)
    statuses = Counter(each.status for each in found.values())
    assert statuses == {"ok": 1, "failed": len(REASONS) + 1, "not run": 1}
    assert found["steady"].turns == 2
    for name, reason in REASONS.items():
        with pytest.raises(RuntimeError, match=reason):
            raise RuntimeError(found[name].reason)
        assert not found[name].latency_ms
    assert found["refused"].reason == "needs a GPU"
    assert found["wrong"].reason == "parity: says something else"
    assert not found["wrong"].timed
    # what failed once is not tried again, and of what says wrong things no time would be shown
    ran = Counter(name for name, _ in told.turns)
    assert ran == {"steady": 2, "wrong": 1, **dict.fromkeys(REASONS, 1)}
    assert told.begun == (2 * (len(names) - 1), 0)


def test_an_interpreter_that_prints_rubbish_fails_its_row(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\ncat > /dev/null\necho '{\"row\": 1}'\n")
    script.chmod(0o755)
    from vlv_benchmarks import runner
    from vlv_benchmarks.planning import make_plan

    asked = order("steady", "slow")
    plan = make_plan(asked)
    rows = (plan.rows[0], replace(plan.rows[1], python=str(script)))
    outcome = runner.run(asked, replace(plan, rows=rows), tmp_path / "out", argv=toy_runs.ARGV,
                         watcher=Watcher())  # fmt: skip
    good, bad = outcome.record.result
    assert (good.status, bad.status) == ("ok", "failed")
    assert "answered nothing that can be read" in bad.reason


def test_stopped_between_turns_it_goes_on_with_the_same_order(tmp_path: Path) -> None:
    out, told = tmp_path / "out", Told()
    outcome = measure(order(turns=3), out, watcher=told, stopped=lambda: len(told.turns) >= 2)
    assert not outcome.complete and len(read_turns(out)) == 2
    assert [each.turns for each in read_record(out).result] == [1, 1]
    before = (out / SAMPLES).read_bytes()
    again = Told()
    outcome = measure(order(turns=3), out, watcher=again)
    assert outcome.complete and again.begun == (6, 2) and len(again.turns) == 4
    assert (out / SAMPLES).read_bytes().startswith(before)
    assert not mismatches(out)


def test_stopped_within_a_turn_its_process_is_ended(tmp_path: Path) -> None:
    started = time.monotonic()
    outcome = measure(order("hang", "steady"), tmp_path / "out",
                      stopped=lambda: time.monotonic() - started > 1.0)  # fmt: skip
    assert not outcome.complete and not read_turns(tmp_path / "out")
    assert {each.reason for each in outcome.record.result} == {"no turn has ended yet"}


def test_killed_it_keeps_what_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, counter = tmp_path / "out", tmp_path / "counter"
    monkeypatch.setenv("TOY_COUNTER", str(counter))
    process = multiprocessing.get_context("fork").Process(
        target=measure, args=(order(turns=3), out)
    )
    process.start()
    deadline = time.monotonic() + 60
    while len(_lines(out / SAMPLES)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    kept = _lines(out / SAMPLES)
    assert len(kept) >= 2
    outcome = measure(order(turns=3), out)
    assert outcome.complete and _lines(out / SAMPLES)[: len(kept)] == kept
    ran = Counter(_lines(counter))
    finished = {f"{json.loads(line)['row'].split('/')[1]} {json.loads(line)['turn']}"
                for line in kept}  # fmt: skip
    assert len(ran) == 6 and all(ran[each.encode()] == 1 for each in finished)


def test_another_order_and_a_strange_folder_are_refused(tmp_path: Path) -> None:
    measure(order("steady"), tmp_path / "out")
    with pytest.raises(UsageError, match="holds another run: vlv-bench run toy"):
        measure(order("steady", turns=2), tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="is not empty and holds no run"):
        measure(order("steady"), tmp_path / "mine")


def test_samples_of_two_machines_or_programs_do_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlv_benchmarks import preparing

    out = tmp_path / "out"
    measure(order("steady"), out)
    kept = (out / SAMPLES).read_bytes()
    here = preparing.environment()
    monkeypatch.setattr(preparing, "environment", lambda: replace(here, cpu_model="another"))
    with pytest.raises(UsageError, match="was begun on another machine or with other libraries"):
        measure(order("steady"), out)
    monkeypatch.setattr(preparing, "environment", lambda: here)
    monkeypatch.setattr(preparing, "git_state", lambda: ("0" * 40, False))
    with pytest.raises(UsageError, match=r"was begun at commit .*, and this is 000000000000"):
        measure(order("steady"), out)
    assert (out / SAMPLES).read_bytes() == kept


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    from vlv_core.files import lock

    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / ".lock").open("wb") as stream:
        assert lock(stream)
        with pytest.raises(UsageError, match="another vlv-bench runs in"):
            measure(order("steady"), tmp_path / "out")


def test_rows_take_turns_and_cases_do_not_mix() -> None:
    rows = [
        Planned(row=Row(case=case, backend=name, label=name, model="m"))
        for case in "xy"
        for name in "abc"
    ]
    said = [f"{each.row.case}{each.row.backend}{turn}" for each, turn in schedule(rows, 2)]
    assert said == ["xa0", "xb0", "xc0", "xb1", "xc1", "xa1",
                    "ya0", "yb0", "yc0", "yb1", "yc1", "ya1"]  # fmt: skip


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines() if path.is_file() else []
