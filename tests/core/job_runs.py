"""Running whole jobs over fake pictures, for the tests of jobs."""

import json
from pathlib import Path
from typing import Any

from tests.core.fake_captioner import FakeCaptioner
from vlv_core.jobs import Counts, JobOptions, caption_job, find_inputs


def rows(path: str = "out.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def run(*arguments: str, captioner: FakeCaptioner | None = None, **job: Any) -> Counts:
    """A job over arguments into out.jsonl; options of the call and of the job mixed."""
    names = {"out", "options", "on_rows", "on_progress", "stopped"}
    call = {"out": Path("out.jsonl")} | {k: job.pop(k) for k in names & set(job)}
    settings = JobOptions(**{"batch": 4, **job})
    found = find_inputs(arguments)
    return caption_job(captioner or FakeCaptioner(), found.inputs, job=settings, **call)
