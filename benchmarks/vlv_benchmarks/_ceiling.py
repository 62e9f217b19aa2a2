"""What this machine's processor can do at best, by matrix products in each arithmetic: torch's, and
in float32 onnxruntime's too, which is twice as fast where torch's library favours another maker."""

from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import torch

from vlv_benchmarks.job import Job, Measured
from vlv_benchmarks.probe import best_seconds

EDGE, COPIED, TIMES = 2048, 2**28, 5


def run(job: Job) -> Measured:
    """Rates as facts: `float32`, `bfloat16` and `int8` in GFLOP/s, `copy` in GB/s."""
    threads = job.row.threads
    torch.set_num_threads(threads)
    best: dict[str, float] = {}
    for name, seconds in (*_products(), *_by_onnxruntime(threads)):
        best[name] = min(seconds, best.get(name, seconds))
    source = torch.randint(0, 256, (COPIED,), dtype=torch.uint8)
    target = torch.empty_like(source)
    copy = best_seconds(lambda: target.copy_(source), times=TIMES)
    rates = {name: 2 * EDGE**3 / seconds / 1e9 for name, seconds in best.items()}
    return Measured(stages={"total": [1.0]}, facts={**rates, "copy": 2 * COPIED / copy / 1e9})


def _products() -> Iterator[tuple[str, float]]:
    torch.manual_seed(0)
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        left, right = (torch.randn(EDGE, EDGE).to(dtype) for _ in range(2))
        yield name, best_seconds(lambda left=left, right=right: left @ right, times=TIMES)  # type: ignore[misc]
    small = torch.randint(-127, 128, (EDGE, EDGE), dtype=torch.int8)
    try:
        yield "int8", best_seconds(lambda: torch._int_mm(small, small), times=TIMES)
    except RuntimeError:
        return  # no such kernel here: rows of it have no bound


def _by_onnxruntime(threads: int) -> Iterator[tuple[str, float]]:
    """Of a variable with a constant, which it packs beforehand; nothing where it is absent."""
    if not (find_spec("onnxruntime") and find_spec("onnx_ir")):
        return
    import onnx_ir as ir
    import onnxruntime as ort

    values = np.random.default_rng(0).standard_normal((EDGE, EDGE), np.float32)
    x = ir.val("x", ir.DataType.FLOAT, values.shape)
    weight = ir.val("weight", const_value=ir.tensor(values))
    node = ir.node("MatMul", [x, weight])
    (y,) = node.outputs
    y.name, y.type, y.shape = "y", ir.TensorType(ir.DataType.FLOAT), ir.Shape(values.shape)
    graph = ir.Graph(
        [x], [y], nodes=[node], initializers=[weight], opset_imports={"": 20}, name="product"
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    model = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    yield "float32", best_seconds(lambda: session.run(None, {"x": values}), times=TIMES)
