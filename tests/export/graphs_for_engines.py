"""What the tests of graphs for engines share: neutral graphs built, and a head run step by step."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from vlv_core.parts import ExportPart
from vlv_export._capture import capture
from vlv_export.lowering._engine import build_engine_graphs
from vlv_export.manifest import GraphEntry

Arrays = Mapping[str, NDArray[Any]]
CAPACITY = 24
ELEMENTS = {"fp32": "float32", "fp16": "float16", "simulated": "float32"}
"""form -> element type of its cache, in numpy"""


def neutral(part: ExportPart, folder: Path) -> Path:
    """The part's neutral graph."""
    path = folder / f"{part.name}.onnx"
    ir.save(capture(part), path, external_data=f"{part.name}.data", size_threshold_bytes=0)
    return path


def build(
    graphs: Mapping[str, Path], folder: Path, dtype: str, *capacities: int
) -> dict[str, GraphEntry]:
    return build_engine_graphs(graphs, folder, dtype=dtype, capacities=capacities or (CAPACITY,))


def session(path: Path, *, weights: Path | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if weights is not None:
        key = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(key, str(weights))
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class EngineHead:
    """A joined head that is called as the traced module is, or as an engine is."""

    def __init__(self, part: ExportPart, opened: ort.InferenceSession, element: str) -> None:
        self.part, self.session, self.element = part, opened, element
        self.noise = np.random.default_rng(8)

    def __call__(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """prefix (B, M, D), tokens (B, T), position, *past -> logits, *present."""
        prefix, tokens, position, *past = (each.numpy() for each in tensors)
        rows, length, width = prefix.shape
        given = np.concatenate([prefix, self._noise(rows, tokens.shape[1], width)], axis=1)
        # A token of -1 takes the prefix's row; the other rows of `prefix` must not be read.
        joined = np.concatenate([np.full((rows, length), -1), tokens], axis=1)
        inputs = {"prefix": given, "tokens": joined, "position": position, "k": np.array([3])}
        for (name, _), each in zip(self.part.state, past, strict=True):
            inputs[name] = self._fixed(each)
        names = [spec.name for spec in self.part.outputs]
        found = self.session.run(names, inputs)
        return [torch.from_numpy(each) for each in found]

    def _fixed(self, cache: NDArray[Any]) -> NDArray[Any]:
        """A cache of the graph's own capacity, full of garbage beyond what is given."""
        rows, heads, given, width = cache.shape
        made = 1000 * self._noise(rows, heads, CAPACITY, width)
        made[:, :, :given] = cache[:, :, :CAPACITY]
        return made.astype(self.element)

    def _noise(self, *shape: int) -> NDArray[np.float32]:
        return self.noise.standard_normal(shape).astype(np.float32)
