"""The export itself: how long it takes, and how much memory."""

import re
import resource
import subprocess
import sys
import time
from pathlib import Path

from vlv_benchmarks.backends import model_name
from vlv_benchmarks.job import CasePlan, Job, Measured, Order, Planned
from vlv_benchmarks.record import Row, Workload
from vlv_benchmarks.turn import TOTAL, Quality
from vlv_core.errors import VlvError
from vlv_export.manifest import read_manifest

DTYPES = ("fp32", "fp32,int8,int4")
VARIANTS, ERROR = "variants/", "error: "
COMMAND = "from vlv_export.cli import main; main()"
STEP = re.compile(r"^(?P<kind>capture|golden|assets|build|prove)\b.*: (?P<seconds>[\d.]+) s$")
"""how the command tells of a step that has ended"""


def plan(order: Order) -> CasePlan:
    rows = [
        Planned(
            row=Row(
                case="export",
                backend="vlv-export",
                label="vlv-export --onnx",
                model=model_name(order.model),
                threads=order.threads,
                options={"variants": dtypes.replace(",", "+")},
            ),
            settings={"model": order.model, "dtypes": dtypes},
            timeout_s=1800,
        )
        for dtypes in DTYPES
    ]
    return CasePlan(
        workload=Workload(
            summary="A trained model to a proved artefact, in a new process: each row another "
            "amount of work, so none is compared with another. Stages: capture of the parts as "
            "graphs, golden values, assets, build of the variants, prove them; the rest is start "
            "and packing."
        ),
        rows=tuple(rows),
    )


def run(job: Job) -> Measured:
    """One export. Stages are sums of the command's own steps, as it tells them."""
    out = Path(job.scratch) / "out"
    command = [sys.executable, "-c", COMMAND, job.settings["model"], "-o", str(out), "--onnx"]
    command += ["--dtype", job.settings["dtypes"], "--threads", str(job.row.threads)]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    spent = (time.perf_counter() - started) * 1e3
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        said = next((line for line in lines if line.startswith(ERROR)), lines[-1])
        raise VlvError(f"the export failed: {said.removeprefix(ERROR)}")
    manifest = read_manifest(out)
    unproved = [name for name, entry in manifest.variants.items()
                if entry.parity.get("verdict") != "passed"]  # fmt: skip
    graphs = [each.bytes for path, each in manifest.files.items() if path.startswith(VARIANTS)]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    return Measured(
        stages={TOTAL: [spent], **steps(done.stderr)},
        facts={"graph_bytes": float(sum(graphs))},
        peak_memory_mb=peak,
        quality=Quality(
            parity="failed" if unproved else "passed",
            reason=f"not proved: {', '.join(unproved)}" if unproved else "",
        ),
    )


def steps(said: str) -> dict[str, list[float]]:
    """Milliseconds of each kind of step, of what the command wrote to stderr."""
    found: dict[str, float] = {}
    for step in filter(None, map(STEP.match, said.splitlines())):
        kind = step["kind"]
        found[kind] = found.get(kind, 0.0) + float(step["seconds"]) * 1e3
    return {kind: [spent] for kind, spent in found.items() if spent}
