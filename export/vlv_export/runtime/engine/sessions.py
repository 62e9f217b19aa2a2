"""The open engines of one variant, on one GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vlv_core.errors import ModelError
from vlv_export.runtime.compiled import Compiled
from vlv_export.runtime.engine.bound import EngineBound, axis_sizes
from vlv_export.runtime.engine.elements import RAW, TENSORRT, decoded, encoded
from vlv_export.runtime.engine.memory import DeviceMemory, Pool

if TYPE_CHECKING:
    from vlv_export.manifest import GraphEntry, Manifest, TensorEntry
    from vlv_export.runtime.engine.device import Device, Engine

Opener = Callable[[str, "EngineSessions"], "Engine"]
"""part, sessions -> its engine"""


class EngineSessions(Compiled):
    """Opens a part's engine when it is first used. Not safe for use from two threads at once.

    Raises MissingExtra if a library is absent, ModelError or VlvError if the GPU cannot be used.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, variant: str | None, *,
        device: Device, opener: Opener,
    ) -> None:  # fmt: skip
        super().__init__(folder, manifest, variant)
        self.device = device
        self.pool = Pool(device)
        self.memory = DeviceMemory(self.pool)
        self._opener = opener

    def _opened(self, part: str, entry: GraphEntry) -> Engine:
        engine = self._opener(part, self)
        check_contract(entry, engine)
        return engine

    def run(
        self,
        part: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str] | None = None,
    ) -> dict[str, NDArray[Any]]:
        entry = self.fed(part, inputs)
        raw = {each.name: encoded(inputs[each.name], each.dtype) for each in entry.inputs}
        sizes = axis_sizes(part, entry, raw)
        kinds = {each.name: each for each in entry.outputs}
        wanted = list(outputs or kinds)
        answers = {
            name: np.empty(
                [size if isinstance(size, int) else sizes[size] for size in kinds[name].shape],
                RAW[kinds[name].dtype],
            )
            for name in wanted
        }
        self.bind(part, raw, answers, varying=()).run()
        return {name: decoded(answers[name], kinds[name].dtype) for name in wanted}

    def bind(
        self,
        part: str,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        *,
        varying: Sequence[str],
    ) -> EngineBound:
        return EngineBound(
            part,
            self.graph(part),
            self.session(part),
            self.pool,
            self.variant.profiles.get(part) or [{}],
            inputs,
            outputs,
            varying=varying,
        )


def check_contract(entry: GraphEntry, engine: Engine) -> None:
    """Memory is laid out by the manifest: raises ModelError if the engine is of another form."""
    told = {each.name: each for each in (*entry.inputs, *entry.outputs)}
    odd = [
        name
        for name in {**told, **engine.forms}
        if name not in told or name not in engine.forms or _differs(told[name], *engine.forms[name])
    ]
    if odd:
        raise ModelError(
            f"{entry.file} and the manifest disagree on {', '.join(odd)}",
            hint="copy the artefact again, or vlv-export build OUT",
        )


def _differs(told: TensorEntry, kind: str, shape: tuple[int, ...]) -> bool:
    """Element types must be equal, and sizes where both know them."""
    if TENSORRT.get(kind) != told.dtype or len(shape) != len(told.shape):
        return True
    return any(
        isinstance(said, int) and found not in (-1, said)
        for said, found in zip(told.shape, shape, strict=True)
    )
