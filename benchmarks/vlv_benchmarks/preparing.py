"""Before the first turn: whose folder it is, what the machine can do, what torch says."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vlv_benchmarks.backends import EAGER, RUNTIME, model_name
from vlv_benchmarks.environment import environment, git_state
from vlv_benchmarks.folder import read_turns
from vlv_benchmarks.inputs import write_pictures
from vlv_benchmarks.job import Job, Order
from vlv_benchmarks.models import model_facts
from vlv_benchmarks.planning import Plan
from vlv_benchmarks.probe import probe
from vlv_benchmarks.process import run_job
from vlv_benchmarks.record import Ceiling, Env, ModelFacts, Row, Run
from vlv_benchmarks.turn import Turn
from vlv_core.config import convert, to_dict
from vlv_core.errors import ConfigError, DataError, UsageError, VlvError
from vlv_core.files import lock, write_atomically

if TYPE_CHECKING:
    from vlv_benchmarks.runner import Watcher

HEAD = "run.json"
PREPARING_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Head:
    """`run.json`: what holds for all turns of a run."""

    identity: str
    """sha256 of all that decides what a turn is; another order has another"""
    run: Run
    env: Env
    model: dict[str, ModelFacts]
    ceiling: dict[str, Ceiling]


@dataclass(frozen=True)
class Begun:
    """A run that can go on."""

    head: Head
    inputs: Path
    turns: list[Turn]
    """of before"""


@contextmanager
def begin(
    order: Order,
    plan: Plan,
    out: Path,
    *,
    argv: Sequence[str],
    watcher: "Watcher",
    stopped: Callable[[], bool],
) -> Iterator[Begun]:
    """Lock `out`, and make or find what all turns share.

    Raises UsageError if the folder holds another run, or somebody runs in it now.
    """
    model = {model_name(order.model): model_facts(order.model, plugins=order.plugins)}
    identity = identity_of(order, plan, model)
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("wb") as stream:
        if not lock(stream):
            raise UsageError(
                f"another vlv-bench runs in {out}", hint="wait for it, or use another -o"
            )
        head = _head(order, plan, out, argv, model, identity, watcher, stopped)
        inputs = out / "work"
        write_pictures(inputs, order, count=plan.images)
        _refer(order, plan, inputs, watcher, stopped)
        yield Begun(head, inputs, read_turns(out))


def identity_of(order: Order, plan: Plan, model: dict[str, ModelFacts]) -> str:
    """Of rows and their settings, the model, the artefacts, turns and seed."""
    artefacts = [sha256((each / "manifest.json").read_bytes()).hexdigest()
                 for each in order.artefacts]  # fmt: skip
    rows = [(each.row.key, each.settings, each.refusal) for each in plan.rows]
    said = [rows, artefacts, [to_dict(each) for each in model.values()]]
    said += [order.turns, order.seed, order.quick, plan.draws]
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _head(
    order: Order,
    plan: Plan,
    out: Path,
    argv: Sequence[str],
    model: dict[str, ModelFacts],
    identity: str,
    watcher: "Watcher",
    stopped: Callable[[], bool],
) -> Head:
    """The one of before, if this is the same order on the same machine; else a new one."""
    path, env = out / HEAD, environment()
    if path.is_file():
        return _found(path, identity, env)
    if any(each.name != ".lock" for each in out.iterdir()):
        raise UsageError(f"{out} is not empty and holds no run", hint="use another -o")
    started = datetime.now(UTC)
    commit, dirty = git_state()
    head = Head(
        identity=identity,
        run=Run(
            id=f"{started:%Y%m%d-%H%M%S}-{model_name(order.model)}",
            argv=tuple(argv),
            git_commit=commit,
            git_dirty=dirty,
            seed=order.seed,
            started=started.isoformat(timespec="seconds").replace("+00:00", "Z"),
            quick=order.quick,
            price_per_hour_usd=order.price_per_hour_usd,
        ),
        env=env,
        model=model,
        ceiling={"cpu": _ceiling(order, plan, watcher, stopped)},
    )
    write_atomically(path, f"{json.dumps(to_dict(head), indent=1)}\n".encode())
    return head


def _found(path: Path, identity: str, env: Env) -> Head:
    try:
        head = convert(Head, json.loads(path.read_bytes()), str(path))
    except (ValueError, ConfigError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="use another -o") from error
    if head.identity != identity:
        raise UsageError(
            f"{path.parent} holds another run: {' '.join(head.run.argv)}",
            hint="the same command goes on with it; use another -o for this one",
        )
    if head.env != env:
        raise UsageError(
            f"{path.parent} was begun on another machine or with other libraries",
            hint="samples of two machines do not mix: use another -o",
        )
    if head.run.git_commit != (commit := git_state()[0]):
        raise UsageError(
            f"{path.parent} was begun at commit {head.run.git_commit[:12]}, and this is "
            f"{commit[:12]}",
            hint="samples of two programs do not mix: use another -o",
        )
    return head


def _ceiling(order: Order, plan: Plan, watcher: "Watcher", stopped: Callable[[], bool]) -> Ceiling:
    """By torch in a process of its own; without torch, by numpy's product here."""
    if find_spec("torch") and plan.runnable:
        watcher.say("measuring what this machine can do at best")
        turn = run_job(_job(order, "vlv_benchmarks._ceiling:run"), timeout_s=PREPARING_S,
                       stopped=stopped)  # fmt: skip
        if turn.error:
            raise VlvError(f"the machine's rates cannot be measured: {turn.error}")
        rates = {name: float(rate) for name, rate in turn.facts.items()}
        return Ceiling(
            gbps=rates.pop("copy"),
            gflops=rates,
            measured="matrix product of 2048 by torch or onnxruntime, copy of 268 MB, best of 5, "
            f"{order.threads} threads",
        )
    found = probe()
    return Ceiling(
        gflops={"float32": found.gflops},
        gbps=found.gbps,
        measured="numpy's matrix product of 1024, copy of 34 MB, best of 7",
    )


def _refer(
    order: Order, plan: Plan, inputs: Path, watcher: "Watcher", stopped: Callable[[], bool]
) -> None:
    """What torch says of the pictures, once for all rows; nothing where no row asks, or torch is
    absent. Raises VlvError if torch cannot run the model."""
    asks = any(each.row.backend in (EAGER, RUNTIME) for each in plan.runnable) and plan.images
    if not asks or not find_spec("torch") or (inputs / "reference" / "reference.json").is_file():
        return
    watcher.say(f"captioning {plan.images} pictures with torch, to compare with")
    job = replace(
        _job(order, "vlv_benchmarks._reference:run"),
        inputs=str(inputs.absolute()),
        settings={
            "model": order.model,
            "draws": bool(plan.draws),
            "count": plan.images,
            "pairs": [list(pair) for pair in plan.draws],
        },
    )
    turn = run_job(job, timeout_s=PREPARING_S, stopped=stopped)
    if turn.error:
        raise VlvError(f"torch cannot run {order.model!r}: {turn.error}")


def _job(order: Order, run: str) -> Job:
    row = Row(case="prepare", backend=run, label=run, model=order.model, threads=order.threads)
    files = tuple(str(path.absolute()) for path in order.plugin_files)
    return Job(run=run, row=row, seed=order.seed, plugin_files=files)
