"""Where does a decoding step of a SmolLM2-135M head spend its time here, by kind of node?

    python benchmarks/decode_profile.py
    python benchmarks/decode_profile.py --batch 1 --dtype int4

The head's graphs of `vlv-export --dtype int4,int8`, halfway through a text of 128 tokens after a
prefix of 77, by onnxruntime's own clock. How fast they are beside other programs is what
`vlv-bench run decode` measures.
"""

import json
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from vlv_benchmarks.peers._head import head, write_graphs
from vlv_benchmarks.peers.prompts import LENGTH
from vlv_core.plugins import load_plugins

TOKENS = 128
PROFILED = 20
"""steps"""
CAPACITY = 256
"""of a profiled step's cache"""


@click.command(help=__doc__.splitlines()[0])
@click.option("--batch", "batches", type=int, multiple=True, default=(1, 8, 32), show_default=True)
@click.option("--dtype", "dtypes", multiple=True, default=("int4", "int8"), show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(*, batches: tuple[int, ...], dtypes: tuple[str, ...], threads: int) -> None:
    part = head(load_plugins())
    with tempfile.TemporaryDirectory() as name:
        for dtype in dtypes:
            write_graphs(part, Path(name) / dtype, dtype=dtype)
        report_nodes(
            {
                f"vlv {dtype}, batch {batch}": node_times(
                    Path(name) / dtype / "head.onnx",
                    batch=batch,
                    position=LENGTH + TOKENS // 2,
                    threads=threads,
                )
                for dtype in dtypes
                for batch in batches
            }
        )


def node_times(path: Path, *, batch: int, position: int, threads: int) -> dict[str, float]:
    """Kind of node -> its milliseconds of one step, by onnxruntime's own clock."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    options.profile_file_prefix = str(path.with_suffix(""))
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    binding, held = session.io_binding(), []
    for each in session.get_inputs():
        held.append(ort.OrtValue.ortvalue_from_numpy(_step_input(each, batch, position)))
        binding.bind_ortvalue_input(each.name, held[-1])
        if each.name.startswith("past."):
            binding.bind_ortvalue_output(each.name.replace("past.", "present."), held[-1])
    for name in ("top_log_probs", "top_ids"):
        binding.bind_output(name)
    for _ in range(PROFILED + 1):
        session.run_with_iobinding(binding)
    events = json.loads(Path(session.end_profiling()).read_text())
    runs = [event["ts"] for event in events if event["name"] == "model_run"]
    milliseconds = Counter[str]()
    for event in events:
        # The first run allocates memory.
        if event["name"].endswith("_kernel_time") and event["ts"] >= runs[1]:
            milliseconds[event["args"]["op_name"]] += event["dur"] / 1e3 / PROFILED
    return dict(milliseconds.most_common())


def report_nodes(found: dict[str, dict[str, float]]) -> None:
    """Print a Markdown table; kinds below a hundredth of every step are the rest."""
    wholes = {name: sum(times.values()) for name, times in found.items()}
    kinds = dict.fromkeys(
        kind
        for name, times in found.items()
        for kind, spent in times.items()
        if spent >= wholes[name] / 100
    )
    click.echo(f"\n| of a step | {' | '.join(found)} |\n|---|{'---|' * len(found)}")
    shares = {
        kind: [times.get(kind, 0.0) / wholes[name] for name, times in found.items()]
        for kind in kinds
    }
    shares["the rest"] = [1 - sum(column) for column in zip(*shares.values(), strict=True)]
    for kind, row in shares.items():
        click.echo(f"| {kind} | {' | '.join(f'{share:.0%}' for share in row)} |")
    click.echo(f"| ms | {' | '.join(f'{whole:.1f}' for whole in wholes.values())} |")


def _step_input(spec: Any, batch: int, position: int) -> NDArray[Any]:
    """What the graph's input is in a step at that position; the cache holds zeros."""
    if spec.name.startswith("past."):
        return np.zeros((batch, spec.shape[1], CAPACITY, spec.shape[3]), np.float32)
    return {
        "prefix": lambda: np.zeros((batch, 0, spec.shape[2]), np.float32),
        "tokens": lambda: np.full((batch, 1), 11, np.int64),
        "position": lambda: np.full(batch, position, np.int64),
        "k": lambda: np.ones(1, np.int64),
    }[spec.name]()


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
