"""One picture to its caption, one after another: what somebody waits for who asks once."""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from vlv_benchmarks.allocations import of_a_step
from vlv_benchmarks.backends import backends, facts_of, open_captioner
from vlv_benchmarks.child import peak_memory_mb
from vlv_benchmarks.job import CasePlan, Job, Measured, Order
from vlv_benchmarks.quality import JUDGED, digest, of_captions, reference, with_more
from vlv_benchmarks.record import Workload
from vlv_benchmarks.stages import Watch, watched
from vlv_benchmarks.turn import TOTAL
from vlv_benchmarks.work import of_stages
from vlv_core.captioner import Captioner
from vlv_core.generation import GenerationOptions, generate
from vlv_core.preprocess import views

FIXED = 32
"""tokens of a caption whose length is not the model's choice, so that speeds compare"""
PREPARE = "prepare"


def plan(order: Order) -> CasePlan:
    images, calls = order.size(8, 20), order.size(8, 80)
    rows = []
    for options in ({},) if order.quick else ({}, {"new_tokens": FIXED}):
        settings = {"images": images, "calls": calls, "warmup": 3}
        rows += [each.planned(order, "single", options=dict(options), settings=settings)
                 for each in backends(order)]  # fmt: skip
    return CasePlan(
        workload=Workload(
            summary="One PNG file to its caption, one after another, greedy: to its natural end, "
            f"and always {FIXED} tokens.",
            images=max(images, JUDGED),
        ),
        rows=tuple(rows),
    )


def run(job: Job) -> Measured:
    """Stages of a call: prepare, encode, prefill (with which the first token is there), decode
    (the other tokens), words."""
    captioner, settings = open_captioner(job), job.settings
    paths, fixed = job.pictures(settings["images"]), job.row.options.get("new_tokens")
    calls: list[dict[str, float]] = []
    said: dict[int, list[int]] = {}
    spoken = 0
    with watched(captioner) as watch:
        for index in range(settings["warmup"] + settings["calls"]):
            if index == settings["warmup"]:
                watch.forget()
                spoken = 0
            at = index % len(paths)
            timed, said[at] = _call(captioner, watch, paths[at], fixed)
            spoken += len(said[at])
            calls.append(timed)
    kept, dropped = calls[settings["warmup"] :], calls[: settings["warmup"]]
    tokens, peak = [said[at] for at in sorted(said)], peak_memory_mb()
    in_torch = "model" in job.settings
    held = of_a_step(captioner, paths[0], torch=in_torch)
    return Measured(
        stages=by_stage(kept),
        discarded=by_stage(dropped),
        counts={"images": len(kept), "tokens": spoken},
        measures=_tokens(kept, spoken),
        work=of_stages(job, watch),
        facts={**facts_of(job), "tokens_per_caption": spoken / len(kept), **held},
        peak_memory_mb=peak,
        output_sha256=digest(tokens),
        quality=of_captions(
            job, with_more(job, captioner, _natural(job, tokens) if fixed else tokens)
        ),
    )


def _call(
    captioner: Captioner, watch: Watch, path: Path, fixed: object
) -> tuple[dict[str, float], list[int]]:
    watch.take()
    started = time.perf_counter()
    view = views([path], captioner.view)
    prepared = time.perf_counter()
    encoded = captioner.backend.encode(view)
    if isinstance(fixed, int):
        # no token ends a text
        options = GenerationOptions(max_new_tokens=fixed, stop_on_repetition=False)
        stepper = captioner.backend.start(encoded.prefix, encoded.prefix.shape[1] + fixed)
        tokens = list(generate(stepper, eos=(), options=options)[0].tokens)
        captioner.backend.words(tokens)
    else:
        tokens = list(captioner.caption(encoded)[0].tokens)
    total = (time.perf_counter() - started) * 1e3
    return {TOTAL: total, PREPARE: (prepared - started) * 1e3, **watch.take()}, tokens


def _tokens(calls: Sequence[dict[str, float]], spoken: int) -> dict[str, float]:
    """Milliseconds to the first token, and of each after it."""
    first = median(each[PREPARE] + each["encode"] + each["prefill"] for each in calls)
    rest = sum(each.get("decode", 0.0) for each in calls)
    return {"first_token_ms": first, "next_token_ms": rest / max(1, spoken - len(calls))}


def by_stage(calls: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """The stages that every call has, call by call."""
    names = [name for name in (calls[0] if calls else ()) if all(name in each for each in calls)]
    return {name: [each[name] for each in calls] for name in names}


def _natural(job: Job, tokens: list[list[int]]) -> list[list[int]]:
    """Captions of a fixed length as `of_captions` compares them: cut where torch's end, and where
    torch went on, with its own words after ours."""
    wanted = reference(job.reference).get("tokens", tokens)
    return [
        (each + one[len(each) :])[: len(one)] for each, one in zip(tokens, wanted, strict=False)
    ]
