"""Pictures to caption embeddings z, in batches: what a search index is filled with."""

import time

import numpy as np

from vlv_benchmarks.backends import backends, facts_of, open_captioner
from vlv_benchmarks.cases.single import PREPARE, by_stage
from vlv_benchmarks.job import CasePlan, Job, Measured, Order
from vlv_benchmarks.quality import digest, of_embeddings
from vlv_benchmarks.record import Workload
from vlv_benchmarks.stages import watched
from vlv_benchmarks.turn import TOTAL
from vlv_benchmarks.work import of_stages
from vlv_core.preprocess import views


def plan(order: Order) -> CasePlan:
    batches = (8,) if order.quick else (1, 8, 32)
    settings = {"calls": order.size(4, 30), "warmup": order.size(1, 3)}
    rows = [
        each.planned(order, "embed", batch=batch, settings=settings)
        for batch in batches
        for each in backends(order)
    ]
    return CasePlan(
        workload=Workload(summary="PNG files to embeddings z, in batches.", images=max(batches)),
        rows=tuple(rows),
    )


def run(job: Job) -> Measured:
    """Stages of a call: prepare, encode."""
    captioner, settings = open_captioner(job), job.settings
    paths = job.pictures(job.row.batch)
    calls: list[dict[str, float]] = []
    with watched(captioner) as watch:
        for index in range(settings["warmup"] + settings["calls"]):
            if index == settings["warmup"]:
                watch.forget()
            watch.take()
            started = time.perf_counter()
            view = views(paths, captioner.view)
            prepared = time.perf_counter()
            z = captioner.backend.encode(view).z
            total = (time.perf_counter() - started) * 1e3
            calls.append({TOTAL: total, PREPARE: (prepared - started) * 1e3, **watch.take()})
    return Measured(
        stages=by_stage(calls[settings["warmup"] :]),
        discarded=by_stage(calls[: settings["warmup"]]),
        counts={"images": settings["calls"] * len(paths)},
        work=of_stages(job, watch),
        facts=facts_of(job),
        output_sha256=digest(np.ascontiguousarray(z)),
        quality=of_embeddings(job, np.asarray(z, np.float32)),
    )
