"""An encoder of real size alone: Florence-2-base, 77 queries and the text encoder of Stable
Diffusion 2.1, with random weights, so that nothing is fetched. In torch, and as vlv exports it."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlv_benchmarks.backends import ARITHMETIC, EAGER, RUNTIME
from vlv_benchmarks.job import CasePlan, Job, Measured, Order, Planned, Settings
from vlv_benchmarks.process import run_job
from vlv_benchmarks.quality import digest
from vlv_benchmarks.record import Row, Workload
from vlv_benchmarks.turn import TOTAL, Quality, Work
from vlv_core.errors import VlvError

MODEL = "florence2-base"
ROWS = (
    (EAGER, "torch eager", "fp32"),
    (EAGER, "torch eager bf16", "bf16"),
    (RUNTIME, "vlv onnx-fp32", "fp32"),
    (RUNTIME, "vlv onnx-int8", "int8"),
)
WARMUP = 1
PREPARING_S, TURN_S = 1200.0, 1800.0
"""a turn's limit holds that of preparing, which the first of a run does"""
FACTS, SAID = "facts.json", "said.npz"
DUE = {"fp32": 0.9999, "bf16": 0.999, "int8": 0.99}
"""cosine of the worst row of any output, as an export's own proof has it"""
DUE_APART = {"fp32": 0.999}
DUE_APART_ROUNDED = 0.7
"""the same of what remains without the mean over pictures: with random weights the outputs of any
two pictures have a cosine of 0.98 or more already, and what remains of them one below 0"""
Outputs = Mapping[str, NDArray[np.float32]]
Encode = Callable[[NDArray[np.uint8]], Outputs]
"""view (B, S, S, 3) -> z (B, K, Dz), context (B, K, Dc), prefix (B, K, Dl)"""


def plan(order: Order) -> CasePlan:
    size, calls = order.size(384, 768), order.size(2, 4)
    settings = {"parts": parts(size), "size": size, "calls": calls}
    rows = [
        Planned(
            row=Row(case="encoder", backend=backend, label=label, model=MODEL, dtype=dtype,
                    variant=f"onnx-{dtype}" if backend == RUNTIME else "", threads=order.threads,
                    reference=(backend, dtype) == (EAGER, "fp32")),
            settings=settings,
            timeout_s=TURN_S,
        )
        for backend, label, dtype in ROWS
    ]  # fmt: skip
    return CasePlan(
        workload=Workload(
            summary="Florence-2-base, 77 queries and the text encoder of Stable Diffusion 2.1, "
            f"random weights, one picture of {size} x {size} pixels a call.",
            options={"size": size},
        ),
        rows=tuple(rows),
    )


def parts(size: int) -> dict[str, Any]:
    """role -> plugin and its options. The head only says how wide the prefix is: as Qwen2.5-0.5B
    has it."""
    pixels = {"size": size, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    florence = {"model": "microsoft/Florence-2-base"}
    return {
        "encoder": ["florence2", {**florence, "pixels": pixels}],
        "bottleneck": ["florence2", {**florence, "num_queries": 77}],
        "decoder": ["stable-diffusion", {"model": "stabilityai/stable-diffusion-2-1-base"}],
        "connector": ["mlp", {}],
        "head": ["mini-lm", {"width": 896, "heads": 14, "depth": 1}],
    }


def run(job: Job) -> Measured:
    """A call encodes another picture than the one before."""
    folder, calls = prepared(job), job.settings["calls"]
    encode = _opened(job, folder)
    spent, made = [], []
    for view in views(job.settings):
        started = time.perf_counter()
        made.append(encode(view))
        spent.append((time.perf_counter() - started) * 1e3)
    found = {name: np.concatenate([each[name] for each in made]) for name in made[0]}
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    return Measured(
        stages={TOTAL: spent[WARMUP:]},
        discarded={TOTAL: spent[:WARMUP]},
        counts={"images": calls},
        work={TOTAL: Work(
            operations=facts["operations"] * calls,
            bytes=facts["weights"][job.row.dtype] * calls,
            arithmetic=ARITHMETIC[job.row.dtype],
        )},
        facts=facts["graphs"][job.row.dtype] if job.row.backend == RUNTIME else {},
        output_sha256=digest(found["z"]),
        quality=_quality(job, found, folder),
    )  # fmt: skip


def prepared(job: Job) -> Path:
    """The encoder in every form, and what torch says in float32: made by the first turn, in a
    process of its own, whose memory is not this one's."""
    folder = Path(job.inputs) / "encoder"
    if not (folder / FACTS).is_file():
        asked = replace(job, run="vlv_benchmarks._encoder:prepare",
                        settings={**job.settings, "folder": str(folder)})  # fmt: skip
        turn = run_job(asked, timeout_s=PREPARING_S)
        if turn.error:
            raise VlvError(f"the encoder cannot be prepared: {turn.error}")
    return folder


def views(settings: Settings) -> list[NDArray[np.uint8]]:
    """One for each call, the warm-up included; (1, S, S, 3)."""
    return [picture(seed, settings["size"]) for seed in range(WARMUP + settings["calls"])]


def picture(seed: int, size: int) -> NDArray[np.uint8]:
    """Squares of random colours, of another size for the next seed; (1, S, S, 3)."""
    edge = 2 ** (seed % 6 + 1)
    across = -(-size // edge)
    colours = np.random.default_rng(seed).integers(0, 256, (1, across, across, 3), np.uint8)
    return np.ascontiguousarray(colours.repeat(edge, 1).repeat(edge, 2)[:, :size, :size])


def _opened(job: Job, folder: Path) -> Encode:
    dtype = job.row.dtype
    if job.row.backend == EAGER:
        from vlv_benchmarks._encoder import opened

        return opened(job, folder)
    from vlv_export.manifest import read_manifest
    from vlv_export.runtime.sessions import Sessions

    sessions = Sessions(folder / dtype, read_manifest(folder / dtype), dtype, job.row.threads)
    return lambda view: sessions.run("encoder", {"view": view})


def _quality(job: Job, found: Outputs, folder: Path) -> Quality:
    """Against torch in float32: the worst row of any output of any picture."""
    dtype = job.row.dtype
    with np.load(folder / SAID) as said:
        wanted = {name: said[name].astype(np.float64) for name in said.files}
    whole = min(_worst(found[name], each) for name, each in wanted.items())
    means = {name: each.mean(axis=0) for name, each in wanted.items()}
    apart = min(_worst(found[name] - means[name], each - means[name])
                for name, each in wanted.items())  # fmt: skip
    due, due_apart = DUE[dtype], DUE_APART.get(dtype, DUE_APART_ROUNDED)
    passed = whole >= due and apart >= due_apart
    reason = (
        f"cosine {whole:.5f}, due {due}; without the mean over pictures {apart:.3f}, "
        f"due {due_apart}"
    )
    return Quality(
        parity="passed" if passed else "failed",
        reason="" if passed else reason,
        figures={"worst cosine": whole, "without the mean over pictures": apart},
    )


def _worst(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """The least cosine of a picture's (K, D) values."""
    a, b = (each.reshape(len(each), -1).astype(np.float64) for each in (found, wanted))
    return float(np.min((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)))
