"""The export itself: how long it takes, and how much memory."""

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
COMMAND = "from vlv_export.cli import main; main()"


def plan(order: Order) -> CasePlan:
    rows = [
        Planned(
            row=Row(
                case="export",
                backend="vlv-export",
                label=f"vlv-export --onnx --dtype {dtypes}",
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
            summary="A trained model to a proved artefact, in a new process; no row is compared "
            "with another."
        ),
        rows=tuple(rows),
    )


def run(job: Job) -> Measured:
    """One export, without other steps than the command's own."""
    out = Path(job.scratch) / "out"
    command = [sys.executable, "-c", COMMAND, job.settings["model"], "-o", str(out), "--onnx"]
    command += ["--dtype", job.settings["dtypes"], "--threads", str(job.row.threads)]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    spent = (time.perf_counter() - started) * 1e3
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise VlvError(f"the export failed: {lines[0] if lines else done.returncode}")
    manifest = read_manifest(out)
    proved = all(entry.parity.get("verdict") == "passed" for entry in manifest.variants.values())
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    return Measured(
        stages={TOTAL: [spent]},
        facts={"artefact_bytes": float(sum(each.bytes for each in manifest.files.values()))},
        peak_memory_mb=peak,
        quality=Quality(parity="passed" if proved else "failed", reason="a variant is not proved"),
    )
