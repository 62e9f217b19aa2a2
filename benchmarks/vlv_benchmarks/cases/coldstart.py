"""A fresh process to its first caption: what a command, a function or a new replica waits for."""

import time

from vlv_benchmarks.backends import backends, facts_of, open_captioner
from vlv_benchmarks.child import peak_memory_mb
from vlv_benchmarks.job import CasePlan, Job, Measured, Order
from vlv_benchmarks.quality import JUDGED, digest, of_captions, with_more
from vlv_benchmarks.record import Workload
from vlv_benchmarks.turn import TOTAL


def plan(order: Order) -> CasePlan:
    return CasePlan(
        workload=Workload(
            summary="A new process imports, opens the model and captions one PNG file. Rounded "
            f"weights are judged by {JUDGED} captions, said after the clock was stopped; "
            "torch.compile finds its compiled code in every turn but the first.",
            images=JUDGED,
        ),
        rows=tuple(each.planned(order, "coldstart") for each in backends(order)),
    )


def run(job: Job) -> Measured:
    """Stages: start (of the interpreter), import (of the library that computes), load, first."""
    entered = time.monotonic()
    if "artefact" in job.settings:
        import vlv_export.runtime._onnxruntime  # noqa: F401
    else:
        import vlv_core.model_folder  # noqa: F401
    imported = time.monotonic()
    captioner = open_captioner(job)
    loaded = time.monotonic()
    said = [list(each.tokens) for each in captioner.caption(job.pictures(1))]
    done = time.monotonic()
    peak = peak_memory_mb()
    points = (job.spawned, entered, imported, loaded, done)
    names = ("start", "import", "load", "first caption")
    stages = {name: [(end - begin) * 1e3]
              for name, begin, end in zip(names, points, points[1:], strict=False)}  # fmt: skip
    return Measured(
        stages={TOTAL: [(done - job.spawned) * 1e3], **stages},
        facts=facts_of(job),
        peak_memory_mb=peak,
        output_sha256=digest(said),
        quality=of_captions(job, with_more(job, captioner, said)),
    )
