"""The least that a captioner's stages have to do: operations as torch counts them, whatever a graph
saves; bytes of the weights as they are stored, read once a call, and of the cache."""

from vlv_benchmarks.backends import arithmetic
from vlv_benchmarks.job import Job
from vlv_benchmarks.quality import reference
from vlv_benchmarks.stages import Watch
from vlv_benchmarks.turn import Work

STAGE_PART = {"encode": "encoder", "prefill": "head", "decode": "head", "denoise": "denoiser"}


def of_stages(job: Job, watch: Watch) -> dict[str, Work]:
    """Of what was watched; nothing where torch counted nothing."""
    counted = reference(job.reference).get("work", {})
    found = {}
    for stage, part in STAGE_PART.items():
        if stage not in counted or not watch.calls.get(stage):
            continue
        size = job.settings.get("bytes", {}).get(part, counted.get(f"{part} bytes", 0.0))
        token = job.settings.get("bytes", {}).get("token", counted.get("token bytes", 0.0))
        read = size * watch.calls[stage] + (token * watch.context if stage == "decode" else 0.0)
        found[stage] = Work(
            operations=counted[stage] * watch.rows[stage],
            bytes=read,
            arithmetic=arithmetic(job),
        )
    return found
