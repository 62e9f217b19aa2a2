"""L6: a fresh process opens the folder from disk, without torch, and repeats L1."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from vlv_export.parity.report import Level, broken, from_data
from vlv_export.parity.target import Target

TIMEOUT_S = 3600


def check_fresh(target: Target) -> Level:
    """The other process's L1, as L6."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "report.json"
        command = [
            sys.executable, "-m", "vlv_export.parity",
            str(target.folder.resolve()), target.variant, str(answer), str(target.threads or ""),
        ]  # fmt: skip
        # This process's own import path: a source tree need not be installed.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env=environment, timeout=TIMEOUT_S
        )
        if done.returncode or not answer.is_file():
            last = (done.stderr.strip().splitlines() or ["no word of why"])[-1]
            return broken("L6", f"the fresh process ended with {done.returncode}: {last}")
        report = from_data(json.loads(answer.read_text()), where="the fresh process")
    note = f"as L1, by another process that opened {target.folder.name} and could not import torch"
    return replace(report.level("L1"), level="L6", notes=(note,))
