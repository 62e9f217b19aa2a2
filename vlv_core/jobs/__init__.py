"""Captioning many pictures: inputs, journal, isolation of failures, sidecars."""

from vlv_core.jobs.find import Found, find_inputs
from vlv_core.jobs.inputs import Input
from vlv_core.jobs.progress import Counts, Progress
from vlv_core.jobs.rows import Row
from vlv_core.jobs.run import JobOptions, caption_job

__all__ = [
    "Counts",
    "Found",
    "Input",
    "JobOptions",
    "Progress",
    "Row",
    "caption_job",
    "find_inputs",
]
