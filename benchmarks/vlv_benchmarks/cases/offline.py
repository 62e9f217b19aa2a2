"""PNG files to written captions by the command's own job: how many pictures a second."""

import time
from pathlib import Path

from vlv_benchmarks.backends import backends, facts_of, open_captioner
from vlv_benchmarks.cases.single import by_stage
from vlv_benchmarks.job import CasePlan, Job, Measured, Order
from vlv_benchmarks.quality import digest, of_captions
from vlv_benchmarks.record import Value, Workload
from vlv_benchmarks.stages import watched
from vlv_benchmarks.turn import TOTAL
from vlv_benchmarks.work import of_stages
from vlv_core.captioner import Captioner
from vlv_core.errors import SomeInputsFailed
from vlv_core.jobs import JobOptions, caption_job, find_inputs
from vlv_core.preprocess import views
from vlv_core.protocols import Caption

OUTSIDE = "outside the clock"
Work = tuple[int, dict[str, Value]]
QUICK: tuple[Work, ...] = ((16, {}),)
FULL: tuple[Work, ...] = ((1, {}), (8, {}), (64, {}), (64, {"preprocessing": OUTSIDE}))
"""batch and options: reading ahead hides behind any batch's work, one shows its cost"""


def plan(order: Order) -> CasePlan:
    images = order.size(16, 256)
    works = QUICK if order.quick else FULL
    settings = {"images": images, "calls": 1}
    rows = [
        each.planned(order, "offline", batch=batch, settings=settings, options=options)
        for batch, options in works
        for each in backends(order)
    ]
    return CasePlan(
        workload=Workload(
            summary="PNG files to captions written as JSON lines, reading ahead in threads; with "
            f"preprocessing {OUTSIDE}: prepared pictures in memory to captions.",
            images=images,
        ),
        rows=tuple(rows),
    )


def run(job: Job) -> Measured:
    """A call is the whole job. Stages are the calling thread's time: reading overlaps with them."""
    captioner, settings = open_captioner(job), job.settings
    paths = job.pictures(settings["images"])
    once = _from_memory if "preprocessing" in job.row.options else _from_files
    calls: list[dict[str, float]] = []
    with watched(captioner) as watch:
        for index in range(settings["calls"] + 1):
            if index == 1:
                watch.forget()
            watch.take()
            seconds, said = once(captioner, paths, job)
            calls.append({TOTAL: seconds * 1e3, **watch.take()})
    return Measured(
        stages=by_stage(calls[1:]),
        discarded=by_stage(calls[:1]),
        counts={
            "images": settings["calls"] * len(paths),
            "tokens": settings["calls"] * sum(len(each) for each in said),
        },
        work=of_stages(job, watch),
        facts=facts_of(job),
        output_sha256=digest(said),
        quality=of_captions(job, said),
    )


def _from_files(captioner: Captioner, paths: list[Path], job: Job) -> tuple[float, list[list[int]]]:
    said: list[list[int]] = []
    out = Path(job.scratch) / "captions.jsonl"
    out.unlink(missing_ok=True)
    inputs = find_inputs([str(path) for path in paths]).inputs
    plain = captioner.caption

    def caption(*arguments: object, **options: object) -> list[Caption]:
        answers = plain(*arguments, **options)  # type: ignore[arg-type]
        said.extend(list(each.tokens) for each in answers)
        return answers

    captioner.caption = caption  # type: ignore[method-assign]
    try:
        started = time.perf_counter()
        counts = caption_job(captioner, inputs, out=out, job=JobOptions(batch=job.row.batch))
        seconds = time.perf_counter() - started
    finally:
        del captioner.caption
    if counts.ok != len(inputs):
        raise SomeInputsFailed(f"{counts.failed} of {len(inputs)} pictures failed")
    return seconds, said


def _from_memory(
    captioner: Captioner, paths: list[Path], job: Job
) -> tuple[float, list[list[int]]]:
    prepared = views(paths, captioner.view)
    started = time.perf_counter()
    said = [
        list(caption.tokens)
        for start in range(0, len(prepared), job.row.batch)
        for caption in captioner.caption(
            captioner.backend.encode(prepared[start : start + job.row.batch])
        )
    ]
    return time.perf_counter() - started, said
