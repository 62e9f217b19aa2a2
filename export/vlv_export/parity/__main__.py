"""`python -m vlv_export.parity FOLDER VARIANT ANSWER THREADS`: L1 in a process of its own, with
torch and all that writes graphs out of reach, but for what a simulation rewrites them with.
Started by `fresh`."""

import json
import sys
from pathlib import Path

BLOCKED = ("torch", "transformers", "diffusers", "onnxscript")
WRITERS = ("onnx", "onnx_ir")


def main() -> None:
    """Check, and write the report as JSON."""
    folder, variant, answer, threads = sys.argv[1:]
    from vlv_export.manifest import read_manifest
    from vlv_export.parity.simulated import simulates

    simulated = simulates(read_manifest(Path(folder)).variant(variant))
    for name in (*BLOCKED, *(() if simulated else WRITERS)):
        sys.modules[name] = None  # type: ignore[assignment]
    from vlv_export.parity.proof import check
    from vlv_export.parity.report import to_data

    report = check(Path(folder), variant, ["L1"], threads=int(threads) if threads else None)
    Path(answer).write_text(json.dumps(to_data(report), allow_nan=False), encoding="utf-8")


if __name__ == "__main__":
    main()
