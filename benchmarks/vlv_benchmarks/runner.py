"""A run: turn by turn, each in a process of its own, every sample on disk before the next begins.

OUT/run.json        what was asked, of what, where; the same command with it goes on
OUT/samples.jsonl   a line a turn
OUT/pictures.json   the pictures' names and sha256
OUT/work/           pictures, and what torch says of them; removed when all is done
OUT/bench.json      the record, and REPORT.md and report.html of it
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vlv_benchmarks.folder import append_turn, read_turns, samples_of, write_record
from vlv_benchmarks.inputs import LIST, digest_of, write_pictures
from vlv_benchmarks.job import Job, Order, Planned
from vlv_benchmarks.planning import Plan
from vlv_benchmarks.preparing import Begun, begin
from vlv_benchmarks.probe import probe
from vlv_benchmarks.process import Stopped, run_job
from vlv_benchmarks.record import Record, Workload
from vlv_benchmarks.report import write_report
from vlv_benchmarks.results import summarise
from vlv_benchmarks.turn import Probe, Turn

PAUSE_S = 0.3
"""between turns, so that the last one's threads have stopped waiting for more"""


class Watcher:
    """Told how far a run is. This one ignores it."""

    def say(self, line: str) -> None:
        """Something worth knowing."""

    def begin(self, total: int, done: int) -> None:
        """So many turns are to be run, of which some were run before."""

    def turn(self, planned: Planned, turn: Turn, seconds: float) -> None:
        """A turn ended."""


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    record: Record
    complete: bool
    """False if it was stopped before its last turn"""


def run(
    order: Order,
    plan: Plan,
    out: Path,
    *,
    argv: Sequence[str],
    watcher: Watcher,
    stopped: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Measure, or go on where an earlier run of the same order stopped.

    Raises UsageError if `out` holds another run or is in use; what preparing raises.
    """
    with begin(order, plan, out, argv=argv, watcher=watcher, stopped=stopped) as begun:
        try:
            for turn in _turns(order, plan, begun, watcher, stopped):
                append_turn(out, turn)
            complete = True
        except Stopped:
            complete = False
        record = _conclude(order, plan, begun, out)
        if complete:
            shutil.rmtree(out / "work", ignore_errors=True)
    return Outcome(record, complete)


def schedule(rows: Sequence[Planned], turns: int) -> Iterator[tuple[Planned, int]]:
    """All turns in the order in which they run: every row once, then every row again, each round
    begun by another row, so that nobody always follows the same one. Cases do not mix."""
    for case in dict.fromkeys(each.row.case for each in rows):
        mine = [each for each in rows if each.row.case == case]
        for turn in range(turns):
            first = turn % len(mine)
            for planned in mine[first:] + mine[:first]:
                yield planned, turn


def _turns(
    order: Order, plan: Plan, begun: Begun, watcher: Watcher, stopped: Callable[[], bool]
) -> Iterator[Turn]:
    done = {(turn.row, turn.turn) for turn in begun.turns}
    failed = {turn.row for turn in begun.turns if _fell(turn)}
    todo = list(schedule(plan.runnable, order.turns))
    watcher.begin(len(todo), sum((each.row.key, turn) in done for each, turn in todo))
    for planned, number in todo:
        key = planned.row.key
        if (key, number) in done or key in failed:
            continue
        if stopped():
            raise Stopped
        started = time.monotonic()
        turn = _measured(order, plan, planned, number, begun, stopped)
        yield turn
        if _fell(turn):
            failed.add(key)
        watcher.turn(planned, turn, time.monotonic() - started)


def _fell(turn: Turn) -> bool:
    """Whether its row will show no time, so that more turns of it are for nothing."""
    return turn.error is not None or turn.quality.parity == "failed"


def _measured(
    order: Order,
    plan: Plan,
    planned: Planned,
    number: int,
    begun: Begun,
    stopped: Callable[[], bool],
) -> Turn:
    """A turn between two probes."""
    job = Job(
        run=plan.runs[planned.row.case],
        row=planned.row,
        turn=number,
        seed=order.seed,
        quick=order.quick,
        settings=planned.settings,
        inputs=str(begun.inputs),
        plugin_files=tuple(str(path.absolute()) for path in order.plugin_files),
    )
    time.sleep(PAUSE_S)
    before = probe()
    turn = run_job(job, timeout_s=planned.timeout_s, python=planned.python, stopped=stopped)
    return replace(turn, probe=Probe(before=before, after=probe()))


def _conclude(order: Order, plan: Plan, begun: Begun, out: Path) -> Record:
    """Write the record and its reports, of as many turns as there are."""
    turns = read_turns(out)
    if not (out / "samples.jsonl").is_file():
        (out / "samples.jsonl").touch()
    head = begun.head
    record = Record(
        run=head.run,
        env=head.env,
        model=head.model,
        workload=_workloads(order, plan, out),
        ceiling=head.ceiling,
        samples=samples_of(out, turns),
        result=summarise(
            [each.row for each in plan.rows],
            turns,
            refused=plan.refused,
            ceiling=head.ceiling,
            seed=order.seed,
        ),
    )
    write_record(out, record)
    write_report(out)
    return record


def _workloads(order: Order, plan: Plan, out: Path) -> dict[str, Workload]:
    """With the sha256 of the pictures that each case uses."""
    digests = list(write_pictures(out / "work", order, count=plan.images).values())
    if digests:
        shutil.copyfile(out / "work" / LIST, out / LIST)
    return {
        name: replace(each, images_sha256=digest_of(digests[: each.images]))
        if each.images
        else each
        for name, each in plan.workload.items()
    }
