"""How fast does an encoder of real size run on the CPU, and how near to what the CPU can do?

    python benchmarks/encoder_cpu.py
    python benchmarks/encoder_cpu.py --size 384 --batch 4 --turns 3
    python benchmarks/encoder_cpu.py --profile

Florence-2-base, 77 queries and Stable Diffusion 2.1's text encoder, as the recipe vlv-paper-small
composes them, with random weights: nothing is fetched. torch in fp32 and bf16 runs beside the
graphs of `vlv-export --dtype fp32,int8` in the runtime's own sessions, in turns, so that a busy
machine slows all alike; a ratio is of one turn. The first turn is not counted. Each turn also
multiplies two 4096 x 4096 matrices in every arithmetic: the fastest product is that one's peak.
Operations are those of the model in torch, whatever a graph saves. Each turn has another picture;
the cosine is the worst of them all, against torch in fp32. It needs some gigabytes of memory
and of disk.
"""

import gc
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vlv_core.compose import Choice, compose
from vlv_core.model_parts import export_parts
from vlv_core.parts import ExportPart
from vlv_core.plugins import load_plugins
from vlv_core.recipe import load_recipe
from vlv_core.training.start import outline

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "vlv-paper-small.toml"
EDGE = 4096
"""of the square matrices whose product is a machine's peak"""
PAUSE_S = 0.3
"""between turns, so that the last one's threads have stopped waiting for more"""
Outputs = dict[str, NDArray[np.float32]]
Encode = Callable[[NDArray[np.uint8]], Outputs]
"""view (B, S, S, 3) -> z, context, prefix"""


class Contestant(NamedTuple):
    encode: Encode
    arithmetic: str
    """whose peak it is held against"""


class Results(NamedTuple):
    seconds: dict[str, list[float]]
    peaks: dict[str, float]
    """arithmetic -> operations a second"""
    cosines: dict[str, float]
    """of the worst output of the worst picture, against the first contestant"""


@click.command(help=__doc__.splitlines()[0])
@click.option("--size", default=768, show_default=True, help="Edge of the view, pixels.")
@click.option("--batch", default=1, show_default=True)
@click.option("--turns", default=5, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--profile", is_flag=True, help="Time each kind of node of the int8 variant.")
def main(*, size: int, batch: int, turns: int, threads: int, profile: bool) -> None:
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        part = encoder(size)
        plain, low = _torch(part, torch.float32), _torch(part, torch.bfloat16)
        graphs = lowered(part, folder, threads=threads)
        contestants = {
            "torch fp32": Contestant(plain, "torch fp32"),
            "torch bf16": Contestant(low, "torch bf16"),
            "onnx-fp32": Contestant(graphs["fp32"], "onnxruntime fp32"),
            "onnx-int8": Contestant(graphs["int8"], "onnxruntime int8"),
        }
        views = [picture(turn, size=size, batch=batch) for turn in range(turns + 1)]
        results = race(contestants, views, threads=threads)
        flops = count(part) * batch
        click.echo(f"{flops / 1e9:.0f} GFLOP, {size} px, batch {batch}, {turns} turns\n")
        report(results, contestants, flops)
        if profile:
            del contestants, graphs
            gc.collect()
            report_nodes(node_times(folder / "int8" / "encoder.onnx", views[1:], threads=threads))


def encoder(size: int) -> ExportPart:
    """The composed encoder with random weights."""
    from vlv_plugins.florence2.config import PIXELS

    recipe = load_recipe(RECIPE)
    choices = outline(recipe, plugins=load_plugins(), root=RECIPE.parent, fetching=False).choices
    choices["encoder"] = _with(choices["encoder"], pixels=replace(PIXELS, size=size))
    # The head only says how wide the prefix is.
    small = {"num_hidden_layers": 1, "vocab_size": 256, "bos_token_id": 0, "eos_token_id": 0}
    architecture = {**choices["head"].config.architecture, **small}
    choices["head"] = _with(choices["head"], architecture=architecture)
    torch.manual_seed(recipe.seed)
    model = compose(choices, view=recipe.view, diffusion=False).eval().requires_grad_(False)
    return export_parts(model, reconstruct=False)[0]


def count(part: ExportPart) -> int:
    """Operations for one picture, an addition and a multiplication each one."""
    (view,) = part.example({"batch": 1}, seed=0).values()
    # The counter does not know the CPU's fused attention.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        part.module(torch.from_numpy(view))
    return counter.get_total_flops()


def lowered(part: ExportPart, folder: Path, *, threads: int) -> dict[str, Encode]:
    """dtype -> the part's graph of that variant, in the runtime's session."""
    import onnx_ir as ir

    from vlv_export._capture import capture
    from vlv_export.lowering._variant import build_variant
    from vlv_export.manifest import SCHEMA, Manifest, VariantEntry
    from vlv_export.runtime.sessions import Sessions

    neutral = folder / "encoder.onnx"
    ir.save(capture(part), neutral, external_data="encoder.onnx.data")
    found: dict[str, Encode] = {}
    for dtype in ("fp32", "int8"):
        graphs = build_variant({"encoder": neutral}, folder / dtype, dtype=dtype)
        entry = VariantEntry(exporter="onnx", dtype=dtype, state="built", graphs=graphs)
        manifest = Manifest(
            schema=SCHEMA, created="", tool={}, packages={}, host={}, model={}, files={},
            variants={dtype: entry}, default=dtype,
        )  # fmt: skip
        found[dtype] = _session(Sessions(folder / dtype, manifest, dtype, threads))
        gc.collect()
    return found


def picture(seed: int, *, size: int, batch: int) -> NDArray[np.uint8]:
    """Squares of random colours, larger with every seed, (B, S, S, 3)."""
    edge = 2 ** (seed % 6 + 1)
    across = -(-size // edge)
    generator = np.random.default_rng(seed)
    colours = generator.integers(0, 256, (batch, across, across, 3), np.uint8)
    return np.ascontiguousarray(colours.repeat(edge, 1).repeat(edge, 2)[:, :size, :size])


def race(
    contestants: Mapping[str, Contestant], views: list[NDArray[np.uint8]], *, threads: int
) -> Results:
    """A turn a view; the first is not timed, but compared."""
    names = list(contestants)
    results = Results({name: [] for name in names}, {}, dict.fromkeys(names, 1.0))
    products = dict(matrix_products(threads))
    for turn, view in enumerate(views):
        # Each turn starts with another, so that nobody always follows the same one.
        first = turn % len(names)
        made = {}
        for name in names[first:] + names[:first]:
            seconds, made[name] = _timed(contestants[name].encode, view)
            arithmetic = contestants[name].arithmetic
            product, _ = _timed(products[arithmetic])
            results.peaks[arithmetic] = max(
                results.peaks.get(arithmetic, 0.0), 2 * EDGE**3 / product
            )
            if turn:
                results.seconds[name].append(seconds)
        for name in names:
            worst = min(_cosines(made[names[0]], made[name]))
            results.cosines[name] = min(results.cosines[name], worst)
    return results


def matrix_products(threads: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Arithmetic -> a product of two matrices of 4096 rows and columns in it."""
    generator = np.random.default_rng(0)
    floats = generator.standard_normal((EDGE, EDGE), np.float32)
    for name, dtype in (("torch fp32", torch.float32), ("torch bf16", torch.bfloat16)):
        matrix = torch.from_numpy(floats).to(dtype)
        yield name, partial(torch.matmul, matrix, matrix)
    yield "onnxruntime fp32", _product("MatMul", floats, floats, threads=threads)
    left = generator.integers(0, 256, (EDGE, EDGE), np.uint8)
    right = generator.integers(-127, 128, (EDGE, EDGE), np.int8)
    yield "onnxruntime int8", _product("MatMulInteger", left, right, threads=threads)


def report(results: Results, contestants: Mapping[str, Contestant], flops: int) -> None:
    """Print a Markdown table, each contestant beside the first."""
    first = next(iter(results.seconds.values()))
    click.echo(
        "| | seconds, median | speed-up (lowest, highest) | GFLOP/s | of the peak | "
        "worst cosine |\n|---|---|---|---|---|---|"
    )
    for name, times in results.seconds.items():
        ratios = [one / own for one, own in zip(first, times, strict=True)]
        rate, peak = flops / median(times), results.peaks[contestants[name].arithmetic]
        click.echo(
            f"| {name} | {median(times):.2f} | {median(ratios):.2f} "
            f"({min(ratios):.2f}, {max(ratios):.2f}) | {rate / 1e9:.0f} | "
            f"{rate / peak:.0%} of {peak / 1e9:.0f} | {results.cosines[name]:.5f} |"
        )


def node_times(
    path: Path, views: list[NDArray[np.uint8]], *, threads: int
) -> dict[str, tuple[int, float]]:
    """Kind of node -> how many there are, and their milliseconds for one batch."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # As the runtime opens an encoder.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.enable_profiling = True
    options.profile_file_prefix = str(path.with_suffix(""))
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for view in views:
        session.run(None, {"view": view})
    events = json.loads(Path(session.end_profiling()).read_text())
    runs = [event["ts"] for event in events if event["name"] == "model_run"]
    milliseconds, nodes = Counter[str](), Counter[str]()
    for event in events:
        # The first run allocates memory.
        if event["name"].endswith("_kernel_time") and event["ts"] >= runs[min(1, len(runs) - 1)]:
            milliseconds[event["args"]["op_name"]] += event["dur"] / 1e3
            nodes[event["args"]["op_name"]] += 1
    counted = max(1, len(runs) - 1)
    return {
        kind: (nodes[kind] // counted, spent / counted)
        for kind, spent in milliseconds.most_common()
    }


def report_nodes(found: Mapping[str, tuple[int, float]]) -> None:
    """Print a Markdown table."""
    whole = sum(spent for _, spent in found.values())
    click.echo(f"\nonnx-int8, {whole:.0f} ms\n\n| node | number | ms | share |\n|---|---|---|---|")
    for kind, (number, spent) in found.items():
        if spent > whole / 200:
            click.echo(f"| {kind} | {number} | {spent:.0f} | {spent / whole:.0%} |")


def _torch(part: ExportPart, dtype: torch.dtype) -> Encode:
    """The part in that type; its module is copied unless it is of that type already."""
    from copy import deepcopy

    module: nn.Module = part.module
    if dtype != torch.float32:
        module = deepcopy(module).to(dtype)
    names = [spec.name for spec in part.outputs]

    def encode(view: NDArray[np.uint8]) -> Outputs:
        with torch.inference_mode():
            made = module(torch.from_numpy(view))
        return {name: each.float().numpy() for name, each in zip(names, made, strict=True)}

    return encode


def _session(sessions: Any) -> Encode:
    return lambda view: sessions.run("encoder", {"view": view})


def _product(op: str, left: Any, right: Any, *, threads: int) -> Callable[[], Any]:
    """onnxruntime's product of a variable with a constant, which it packs beforehand."""
    import onnx_ir as ir
    import onnxruntime as ort

    x = ir.val("x", ir.DataType.from_numpy(left.dtype), left.shape)
    weight = ir.val("weight", const_value=ir.tensor(right))
    node = ir.node(op, [x, weight])
    y = node.outputs[0]
    y.name, y.shape = "y", ir.Shape([EDGE, EDGE])
    y.type = ir.TensorType(ir.DataType.INT32 if op == "MatMulInteger" else ir.DataType.FLOAT)
    graph = ir.Graph([x], [y], nodes=[node], initializers=[weight], opset_imports={"": 20}, name=op)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    model = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": left})


def _timed(call: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    time.sleep(PAUSE_S)
    started = time.perf_counter()
    made = call(*arguments)
    return time.perf_counter() - started, made


def _cosines(one: Outputs, other: Outputs) -> Iterator[float]:
    """Of each row of each output."""
    for name, wanted in one.items():
        for a, b in zip(wanted, other[name], strict=True):
            yield float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def _with(choice: Choice, **options: Any) -> Choice:
    return replace(choice, config=replace(choice.config, **options))


if __name__ == "__main__":
    main()
