"""Graphs of bfloat16 on a CPU that has no kernels for it: each operation is computed in float32
and its result rounded, as hardware that accumulates in float32 does."""

import tempfile
from dataclasses import replace
from pathlib import Path

from vlv_export.manifest import GraphEntry, Manifest, TensorEntry, VariantEntry
from vlv_export.runtime.sessions import Sessions

SIMULATED = "simulated: each operation in float32, its result rounded to bfloat16"


def simulates(entry: VariantEntry) -> bool:
    """Whether the numbers of a variant come from a simulation of its graphs."""
    return entry.dtype == "bf16" and entry.for_engines


class SimulatedSessions(Sessions):
    """Sessions of a variant's graphs, each rewritten when it is first opened.

    Caches come and go as float32. Needs onnx-ir. Raises as `Sessions` does.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, variant: str | None, threads: int | None = None
    ) -> None:
        super().__init__(folder, manifest, variant, threads)
        self._scratch = tempfile.TemporaryDirectory(prefix="vlv-simulated-")

    def graph(self, part: str) -> GraphEntry:
        entry = super().graph(part)
        return replace(
            entry,
            inputs=tuple(map(_plain, entry.inputs)),
            outputs=tuple(map(_plain, entry.outputs)),
        )

    def file(self, part: str) -> Path:
        from vlv_export.lowering._simulate import simulate

        path = Path(self._scratch.name) / Path(self.graph(part).file).name
        simulate(super().file(part), path)
        return path

    def weights(self, part: str) -> Path:
        return super().file(part).parent


def _plain(entry: TensorEntry) -> TensorEntry:
    return replace(entry, dtype="float32") if entry.dtype == "bfloat16" else entry
