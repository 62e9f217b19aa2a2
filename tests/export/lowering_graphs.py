"""Graphs for the tests of lowering: one neutral operation each, and the parts of a tiny model."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from tests.core import tiny_folder
from vlv_core.loading import load
from vlv_core.model_parts import export_parts
from vlv_core.parts import ExportPart
from vlv_export._capture import capture

Arrays = Mapping[str, NDArray[Any]]
Shape = tuple[int | str, ...]
KINDS = {"float32": ir.DataType.FLOAT, "int64": ir.DataType.INT64, "bool": ir.DataType.BOOL}


def value(name: str, shape: Shape, kind: str = "float32") -> ir.Value:
    """A named value of a graph."""
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(KINDS[kind]))


def graph_of(
    inputs: Sequence[ir.Value], nodes: Sequence[ir.Node], outputs: Sequence[ir.Value]
) -> ir.Model:
    """A neutral model of these nodes; constants are found by their `const_value`."""
    constants = {
        each.name: each
        for node in nodes
        for each in node.inputs
        if each is not None and each.const_value is not None
    }
    graph = ir.Graph(
        inputs,
        outputs,
        nodes=nodes,
        initializers=list(constants.values()),
        opset_imports={"": 20, "vlv": 1, "com.microsoft": 1},
        name="one",
    )
    return ir.Model(graph, ir_version=10)


def session(model: ir.Model | Path) -> ort.InferenceSession:
    """An onnxruntime session on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else ir.to_proto(model).SerializeToString()
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run(model: ir.Model | Path, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """All outputs of a graph, by name."""
    opened = session(model)
    names = [each.name for each in opened.get_outputs()]
    return dict(zip(names, opened.run(names, dict(inputs)), strict=True))


def eager(part: ExportPart, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """The same of the part's own module."""
    tensors = [torch.from_numpy(inputs[spec.name].copy()) for spec in part.inputs]
    with torch.no_grad():
        answers = part.module(*tensors)
    names = (spec.name for spec in part.outputs)
    return {name: each.numpy() for name, each in zip(names, answers, strict=True)}


def tiny_parts(folder: Path) -> tuple[dict[str, ExportPart], dict[str, Path]]:
    """Parts of the tiny model, and the files of their neutral graphs."""
    tiny_folder.make(folder / "model")
    model: Any = load(folder / "model", parts="all").backend
    parts = {part.name: part for part in export_parts(model.model, reconstruct=True)}
    files = {}
    for name, part in parts.items():
        files[name] = folder / f"{name}.onnx"
        ir.save(capture(part), files[name], external_data=f"{name}.data", size_threshold_bytes=0)
    return parts, files


def rel_l2(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """|found - wanted| / |wanted|."""
    difference = np.linalg.norm(found.astype(np.float64) - wanted)
    return float(difference / max(np.linalg.norm(wanted.astype(np.float64)), 1e-30))


def cosine(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Of the flattened arrays."""
    a, b = found.astype(np.float64).ravel(), wanted.astype(np.float64).ravel()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


Lower = Callable[[ir.Model], None]
