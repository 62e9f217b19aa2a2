"""What runs the compiled parts of a variant, whatever they were compiled to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from vlv_core.errors import ModelError
from vlv_core.files import contained

if TYPE_CHECKING:
    from vlv_export.manifest import GraphEntry, Manifest
    from vlv_export.runtime.memory import Memory


class Bound(Protocol):
    """A part, ready to run again and again on the same inputs and outputs."""

    outputs: dict[str, Any]
    """by name; host arrays, or what lies in the sessions' memory"""

    def run(self) -> None:
        """Read the inputs as they are now and write the outputs. Raises VlvError if it fails."""
        ...


class Compiled(ABC):
    """The parts of one variant, each opened when it is first used.

    Raises ModelError for an unknown variant.
    """

    memory: Memory
    """where caches lie that parts update in place"""

    def __init__(self, folder: Path, manifest: Manifest, variant: str | None) -> None:
        self.folder = folder
        self.name = manifest.named(variant)
        self.variant = manifest.variant(variant)
        self._open: dict[str, Any] = {}

    def graph(self, part: str) -> GraphEntry:
        """Raises ModelError if the variant has no such part."""
        return self.variant.graph(part)

    def file(self, part: str) -> Path:
        """The compiled file. Raises ModelError if it lies outside the artefact."""
        return contained(self.folder, self.graph(part).file)

    def session(self, part: str) -> Any:
        """The part, opened. Raises ModelError if the variant lacks it, or it cannot be opened."""
        if part not in self._open:
            self._open[part] = self._opened(part, self.graph(part))
        return self._open[part]

    @abstractmethod
    def _opened(self, part: str, entry: GraphEntry) -> Any:
        """Open it, and check that it is what the manifest says."""

    def fed(self, part: str, inputs: Mapping[str, Any]) -> GraphEntry:
        """The part's entry. Raises ModelError if one of its inputs is not given."""
        entry = self.graph(part)
        if missing := [each.name for each in entry.inputs if each.name not in inputs]:
            raise ModelError(f"part {part!r} needs the input {missing[0]!r}")
        return entry

    @abstractmethod
    def run(
        self,
        part: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run a part on arrays by name; all outputs, or those named.

        Inputs are cast to the graph's element types. Raises ModelError for a missing input.
        """

    @abstractmethod
    def bind(
        self,
        part: str,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        *,
        varying: Sequence[str],
    ) -> Bound:
        """A run of a part on arrays of the graph's own element types, and on tensors of `memory`.

        `varying`: inputs whose content changes between runs; others are read once.
        """
