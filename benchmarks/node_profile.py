"""Where does a graph spend its time here, by kind of node?

    python benchmarks/node_profile.py decode
    python benchmarks/node_profile.py decode --batch 1 --dtype int4
    python benchmarks/node_profile.py encoder --size 384

By onnxruntime's own clock. `decode` is a step of the SmolLM2-135M head of `vlv-bench run decode`,
halfway through a text of 128 tokens after a prefix of 77; `encoder` is a picture in the encoder of
`vlv-bench run encoder`. How fast they are beside other programs is what those measure.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vlv_benchmarks._encoder import encoder as composed
from vlv_benchmarks._graphs import write_graphs
from vlv_benchmarks.cases.encoder import parts, picture
from vlv_benchmarks.peers._head import head
from vlv_benchmarks.peers.prompts import LENGTH
from vlv_core.plugins import load_plugins

POSITION = LENGTH + 64
CAPACITY = 256
"""of a step's cache"""
STEPS, PICTURES = 20, 3
Calls = Callable[[ort.InferenceSession], Callable[[], Any]]
"""an open graph -> what runs it once"""

threads_option = click.option("--threads", default=2, show_default=True)


@click.group(help=__doc__.splitlines()[0])
def main() -> None:
    pass


@main.command()
@click.option("--batch", "batches", type=int, multiple=True, default=(1, 8, 32), show_default=True)
@click.option("--dtype", "dtypes", multiple=True, default=("int4", "int8"), show_default=True)
@threads_option
def decode(*, batches: tuple[int, ...], dtypes: tuple[str, ...], threads: int) -> None:
    """A step of a SmolLM2-135M head."""
    part = head(load_plugins()).export_part()
    with tempfile.TemporaryDirectory() as name:
        for dtype in dtypes:
            write_graphs(part, Path(name) / dtype, dtype=dtype)
        report(
            {
                f"vlv {dtype}, batch {batch}": node_times(
                    Path(name) / dtype / "head.onnx",
                    partial(a_step, batch=batch),
                    times=STEPS,
                    threads=threads,
                )
                for dtype in dtypes
                for batch in batches
            },
            of="a step",
        )


@main.command()
@click.option("--size", default=768, show_default=True, help="Edge of the view, pixels.")
@click.option("--dtype", "dtypes", multiple=True, default=("fp32", "int8"), show_default=True)
@threads_option
def encoder(*, size: int, dtypes: tuple[str, ...], threads: int) -> None:
    """A picture in a Florence-2-base with random weights; some gigabytes of memory and of disk."""
    part = composed(parts(size), size=size, plugins=load_plugins(), seed=0)
    with tempfile.TemporaryDirectory() as name:
        for dtype in dtypes:
            write_graphs(part, Path(name) / dtype, dtype=dtype)
        del part
        view = picture(1, size)
        report(
            {
                f"vlv {dtype}": node_times(
                    Path(name) / dtype / "encoder.onnx",
                    lambda session: lambda: session.run(None, {"view": view}),
                    times=PICTURES,
                    threads=threads,
                )
                for dtype in dtypes
            },
            of="a picture",
        )


def node_times(path: Path, calls: Calls, *, times: int, threads: int) -> dict[str, float]:
    """Kind of node -> its milliseconds in one call, the mean of `times`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # as the runtime opens a graph
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.enable_profiling = True
    options.profile_file_prefix = str(path.with_suffix(""))
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    call = calls(session)
    for _ in range(times + 1):
        call()
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    runs = [event["ts"] for event in events if event["name"] == "model_run"]
    milliseconds = Counter[str]()
    for event in events:
        # the first run allocates memory
        if event["name"].endswith("_kernel_time") and event["ts"] >= runs[1]:
            milliseconds[event["args"]["op_name"]] += event["dur"] / 1e3 / times
    return dict(milliseconds.most_common())


def report(found: dict[str, dict[str, float]], *, of: str) -> None:
    """Print a Markdown table; kinds below a hundredth of every column are the rest."""
    wholes = {name: sum(times.values()) for name, times in found.items()}
    kinds = dict.fromkeys(
        kind
        for name, times in found.items()
        for kind, spent in times.items()
        if spent >= wholes[name] / 100
    )
    click.echo(f"\n| of {of} | {' | '.join(found)} |\n|---|{'---|' * len(found)}")
    shares = {
        kind: [times.get(kind, 0.0) / wholes[name] for name, times in found.items()]
        for kind in kinds
    }
    shares["the rest"] = [1 - sum(column) for column in zip(*shares.values(), strict=True)]
    for kind, row in shares.items():
        click.echo(f"| {kind} | {' | '.join(f'{share:.0%}' for share in row)} |")
    click.echo(f"| ms | {' | '.join(f'{whole:.1f}' for whole in wholes.values())} |")


def a_step(session: ort.InferenceSession, *, batch: int) -> Callable[[], None]:
    """A step of a head whose cache is updated where it lies."""
    binding, held = session.io_binding(), []
    for each in session.get_inputs():
        held.append(ort.OrtValue.ortvalue_from_numpy(_step_input(each, batch)))
        binding.bind_ortvalue_input(each.name, held[-1])
        if each.name.startswith("past."):
            binding.bind_ortvalue_output(each.name.replace("past.", "present."), held[-1])
    for name in ("top_log_probs", "top_ids"):
        binding.bind_output(name)
    return lambda: session.run_with_iobinding(binding)


def _step_input(spec: Any, batch: int) -> NDArray[Any]:
    """What the graph's input is in a step; the cache holds zeros."""
    if spec.name.startswith("past."):
        return np.zeros((batch, spec.shape[1], CAPACITY, spec.shape[3]), np.float32)
    return {
        "prefix": lambda: np.zeros((batch, 0, spec.shape[2]), np.float32),
        "tokens": lambda: np.full((batch, 1), 11, np.int64),
        "position": lambda: np.full(batch, POSITION, np.int64),
        "k": lambda: np.ones(1, np.int64),
    }[spec.name]()


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
