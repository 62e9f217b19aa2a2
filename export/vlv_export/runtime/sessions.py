"""The open graphs of one variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vlv_core.errors import MissingExtra, ModelError
from vlv_core.files import contained
from vlv_export.runtime.threads import pick_threads

if TYPE_CHECKING:
    from vlv_export.manifest import GraphEntry, Manifest

DECODING = "head"
"""the part that is run token by token"""


class Sessions:
    """Opens a part's graph when it is first used. Not safe for use from two threads at once.

    Raises MissingExtra if onnxruntime is absent, ModelError for an unknown variant.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, variant: str | None, threads: int | None = None
    ) -> None:
        if find_spec("onnxruntime") is None:
            raise MissingExtra("onnxruntime", extra="runtime")
        self.folder = folder
        self.variant = manifest.variant(variant)
        self.threads = pick_threads(threads)
        self._open: dict[str, Any] = {}

    def graph(self, part: str) -> GraphEntry:
        """Raises ModelError if the variant has no such part."""
        return self.variant.graph(part)

    def session(self, part: str) -> Any:
        """The part's onnxruntime session. Raises ModelError if it cannot be opened."""
        if part not in self._open:
            from vlv_export.runtime._onnxruntime import open_session

            entry = self.graph(part)
            session = open_session(
                contained(self.folder, entry.file), threads=self.threads, alone=part == DECODING
            )
            _check_names(entry, session)
            self._open[part] = session
        return self._open[part]

    def run(
        self,
        part: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run a part on arrays by name; all outputs, or those named.

        Inputs are cast to the graph's element types. Raises ModelError for a missing input.
        """
        from vlv_export.runtime import _onnxruntime

        entry, session = self.graph(part), self.session(part)
        wanted = list(outputs or (each.name for each in entry.outputs))
        missing = [each.name for each in entry.inputs if each.name not in inputs]
        if missing:
            raise ModelError(f"part {part!r} needs the input {missing[0]!r}")
        given = {
            each.name: _onnxruntime.aligned(inputs[each.name], each.dtype) for each in entry.inputs
        }
        return dict(zip(wanted, _onnxruntime.run(session, given, wanted), strict=True))


def _check_names(entry: GraphEntry, session: Any) -> None:
    """The graph must be what the manifest says of it."""
    for found, told in (
        (session.get_inputs(), entry.inputs),
        (session.get_outputs(), entry.outputs),
    ):
        names, expected = [each.name for each in found], [each.name for each in told]
        if sorted(names) != sorted(expected):
            odd = sorted(set(names) ^ set(expected))
            raise ModelError(
                f"{entry.file} and the manifest disagree on {', '.join(odd) or 'a name twice'}",
                hint="copy the artefact again",
            )
    for each in (*entry.inputs, *entry.outputs):
        if each.dtype != "bfloat16" and each.dtype not in np.sctypeDict:
            raise ModelError(f"{entry.file}: {each.name!r} has an unknown type {each.dtype!r}")
