"""Pictures redrawn from their embeddings, by number of steps and by guidance."""

import time

from vlv_benchmarks.backends import backends, facts_of, open_captioner
from vlv_benchmarks.cases.single import by_stage
from vlv_benchmarks.job import CasePlan, Job, Measured, Order
from vlv_benchmarks.quality import digest, of_pictures
from vlv_benchmarks.record import Workload
from vlv_benchmarks.stages import watched
from vlv_benchmarks.turn import TOTAL
from vlv_benchmarks.work import of_stages

BATCH = 4


def plan(order: Order) -> CasePlan:
    pairs = ((2, 3.0),) if order.quick else ((5, 3.0), (25, 1.0), (25, 3.0))
    settings = {"calls": order.size(1, 2)}
    rows = [
        each.planned(
            order, "reconstruct", batch=BATCH, settings=settings,
            options={"guidance": guidance, "steps": steps},
        )
        for steps, guidance in pairs
        for each in backends(order, draws=True)
    ]  # fmt: skip
    return CasePlan(
        workload=Workload(
            summary="PNG files to pictures redrawn from their embeddings.", images=BATCH
        ),
        rows=tuple(rows),
        draws=pairs,
    )


def run(job: Job) -> Measured:
    """Stages of a call: encode, denoise (all steps), pictures."""
    captioner, options = open_captioner(job), job.row.options
    steps, guidance = int(options["steps"]), float(options["guidance"])
    paths = job.pictures(job.row.batch)
    calls: list[dict[str, float]] = []
    with watched(captioner) as watch:
        for index in range(job.settings["calls"] + 1):
            if index == 1:
                watch.forget()
            watch.take()
            started = time.perf_counter()
            drawn = captioner.reconstruct(
                paths, seed=job.seed, steps=steps, guidance=guidance, keys=range(len(paths))
            )
            calls.append({TOTAL: (time.perf_counter() - started) * 1e3, **watch.take()})
    return Measured(
        stages=by_stage(calls[1:]),
        discarded=by_stage(calls[:1]),
        counts={"images": job.settings["calls"] * len(paths)},
        work=of_stages(job, watch),
        facts=facts_of(job),
        output_sha256=digest(drawn),
        quality=of_pictures(job, drawn, f"drawn-{steps}-{guidance:g}.npy"),
    )
