"""The open graphs of one variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from vlv_core.errors import MissingExtra, ModelError
from vlv_export.runtime.compiled import Compiled
from vlv_export.runtime.memory import HostMemory
from vlv_export.runtime.threads import pick_threads

if TYPE_CHECKING:
    from vlv_export.manifest import GraphEntry, Manifest
    from vlv_export.runtime._onnxruntime import Bound

_TYPES = {
    "float32": "tensor(float)",
    "float16": "tensor(float16)",
    "uint8": "tensor(uint8)",
    "int32": "tensor(int32)",
    "int64": "tensor(int64)",
}
"""what inputs and outputs may be -> onnxruntime's name of it"""


class Sessions(Compiled):
    """Graphs run by onnxruntime. Not safe for use from two threads at once.

    Raises MissingExtra if onnxruntime is absent, ModelError for an unknown variant.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, variant: str | None, threads: int | None = None
    ) -> None:
        if find_spec("onnxruntime") is None:
            raise MissingExtra("onnxruntime", extra="runtime")
        super().__init__(folder, manifest, variant)
        self.threads = pick_threads(threads)
        self.memory = HostMemory()

    def weights(self, part: str) -> Path | None:
        """The folder of its files of weights, if that is not the graph's own."""
        del part
        return None

    def _opened(self, part: str, entry: GraphEntry) -> Any:
        from vlv_export.runtime._onnxruntime import open_session

        session = open_session(self.file(part), threads=self.threads, weights=self.weights(part))
        _check_contract(entry, session)
        return session

    def run(
        self,
        part: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str] | None = None,
    ) -> dict[str, NDArray[Any]]:
        from vlv_export.runtime import _onnxruntime

        entry, session = self.fed(part, inputs), self.session(part)
        wanted = list(outputs or (each.name for each in entry.outputs))
        given = {
            each.name: _onnxruntime.aligned(inputs[each.name], each.dtype) for each in entry.inputs
        }
        return dict(zip(wanted, _onnxruntime.run(session, given, wanted), strict=True))

    def bind(
        self,
        part: str,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        *,
        varying: Sequence[str],
    ) -> Bound:
        from vlv_export.runtime._onnxruntime import Bound

        del varying  # the graph reads all of them where they lie
        return Bound(self.session(part), inputs, outputs)


def _check_contract(entry: GraphEntry, session: Any) -> None:
    """The graph's inputs and outputs must be what the manifest says, which buffers are made by.

    Raises ModelError.
    """
    for found, told in (
        (session.get_inputs(), entry.inputs),
        (session.get_outputs(), entry.outputs),
    ):
        real = {each.name: (each.type, _fixed(each.shape)) for each in found}
        said = {each.name: (_TYPES.get(each.dtype), _fixed(each.shape)) for each in told}
        if real != said:
            odd = [name for name in {**real, **said} if real.get(name) != said.get(name)]
            raise ModelError(
                f"{entry.file} and the manifest disagree on {', '.join(odd)}",
                hint="copy the artefact again",
            )


def _fixed(shape: Sequence[int | str | None]) -> tuple[int | None, ...]:
    """A shape with None for its dynamic axes."""
    return tuple(size if isinstance(size, int) else None for size in shape)
