"""`python -m vlv_export.parity FOLDER VARIANT ANSWER THREADS`: L1 in a process of its own, with
torch and all that writes graphs out of reach. Started by `fresh`."""

import json
import sys
from pathlib import Path

BLOCKED = ("torch", "transformers", "diffusers", "onnx", "onnxscript", "onnx_ir")


def main() -> None:
    """Check, and write the report as JSON."""
    for name in BLOCKED:
        sys.modules[name] = None  # type: ignore[assignment]
    from vlv_export.parity.proof import check
    from vlv_export.parity.report import to_data

    folder, variant, answer, threads = sys.argv[1:]
    report = check(Path(folder), variant, ["L1"], threads=int(threads) if threads else None)
    Path(answer).write_text(json.dumps(to_data(report), allow_nan=False), encoding="utf-8")


if __name__ == "__main__":
    main()
