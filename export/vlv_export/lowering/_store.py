"""Weights on disk: each once a folder, whatever parts and graphs use them.

Files are written tensor by tensor, so that a model larger than memory's share can be converted;
runtimes map them into memory.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

INLINE = 1024
"""bytes: smaller tensors stay in the graph's file, where shape inference can read them"""
PAGE = 4096
"""alignment of tensors of 1 MiB and more: what a memory map can start at"""
LINE = 64
"""alignment of the others: what vector instructions like"""


@dataclass(frozen=True)
class Place:
    """Where a tensor's bytes are."""

    file: str
    offset: int
    length: int


class WeightStore:
    """The weight files of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[tuple[bytes, ir.DataType], Place] = {}

    def write(self, graph: ir.Graph, file: str) -> None:
        """Move a graph's initializers to disk: what is not there yet goes to `file`."""
        path = self.folder / file
        path.unlink(missing_ok=True)
        for value in graph.initializers.values():
            tensor: Any = value.const_value
            assert tensor is not None
            if tensor.nbytes < INLINE:
                value.const_value = ir.tensor(np.array(tensor.numpy()), dtype=tensor.dtype)
                continue
            place = self._place(tensor, path)
            if isinstance(tensor, ir.ExternalTensor):
                tensor.release()
            value.const_value = ir.ExternalTensor(
                place.file,
                place.offset,
                place.length,
                tensor.dtype,
                shape=ir.Shape(tensor.shape),
                name=value.name or "",
                base_dir=self.folder,
            )

    def _place(self, tensor: Any, path: Path) -> Place:
        data: Any = np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8)
        # TensorRT refuses one place that is read as tensors of two lengths: zeros of two types.
        key = hashlib.sha256(data).digest(), tensor.dtype
        if key not in self._places:
            alignment = PAGE if data.nbytes >= 1 << 20 else LINE
            with path.open("ab") as file:
                file.write(bytes(-file.tell() % alignment))
                self._places[key] = Place(path.name, file.tell(), data.nbytes)
                file.write(data)
        return self._places[key]


def data_files(graph: ir.Graph) -> tuple[str, ...]:
    """The files that a graph's initializers are in, in order of first use."""
    tensors = (value.const_value for value in graph.initializers.values())
    found = [str(each.location) for each in tensors if isinstance(each, ir.ExternalTensor)]
    return tuple(dict.fromkeys(found))
