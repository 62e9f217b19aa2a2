"""The only module of the runtime that imports onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vlv_core.errors import ModelError, VlvError

PROVIDERS = ("CPUExecutionProvider",)
WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"


def version() -> str:
    return ort.__version__


def open_session(path: Path, *, threads: int, weights: Path | None = None) -> ort.InferenceSession:
    """A session on the CPU. Raises ModelError if onnxruntime cannot open the graph.

    `weights` is the folder of its files of weights if that is not its own.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # Fatal alone: what it would log besides comes back as an exception, and is told there.
    options.log_severity_level = 4
    # Threads may spin in wait within a run. After it they would take the cores from other graphs,
    # and from the reading of files.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if weights is not None:
        options.add_session_config_entry(WEIGHTS_FOLDER, str(weights))
    try:
        return ort.InferenceSession(str(path), options, providers=list(PROVIDERS))
    except Exception as error:
        raise ModelError(
            f"{path} cannot be opened by onnxruntime {version()}: {reason(error)}",
            hint=_mend(error),
        ) from error


def run(
    session: ort.InferenceSession, inputs: Mapping[str, NDArray[Any]], outputs: list[str]
) -> list[NDArray[Any]]:
    """Raises as `failed` says."""
    try:
        return session.run(outputs, dict(inputs))
    except Exception as error:
        raise failed(error) from error


class Bound:
    """A run whose inputs and outputs are numpy arrays that stay where they are."""

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Mapping[str, NDArray[Any]],
    ) -> None:
        self.session = session
        self.outputs = dict(outputs)
        self._io = session.io_binding()
        # An array that is both, as a cache in place is, becomes one value.
        values = {
            id(array): ort.OrtValue.ortvalue_from_numpy(array)
            for array in (*inputs.values(), *outputs.values())
        }
        self._kept = (dict(inputs), self.outputs, values)
        for name, array in inputs.items():
            self._io.bind_ortvalue_input(name, values[id(array)])
        for name, array in outputs.items():
            self._io.bind_ortvalue_output(name, values[id(array)])

    def run(self) -> None:
        """Read the inputs and write the outputs, in place. Raises as `failed` says."""
        try:
            self.session.run_with_iobinding(self._io)
        except Exception as error:
            raise failed(error) from error


def failed(error: Exception) -> Exception:
    """What to raise for a run that failed.

    Want of memory stays MemoryError, because fewer pictures at once may help.
    """
    text = reason(error)
    if "alloc" in text.lower():
        return MemoryError(text)
    return VlvError(f"onnxruntime {version()} failed: {text}", hint="vlv-export verify OUT")


def reason(error: Exception) -> str:
    """onnxruntime's own words on one line, without what it puts before them."""
    text = " ".join(str(error).split())
    return text.rpartition("[ONNXRuntimeError] : ")[2][:500]


def _mend(error: Exception) -> str:
    if "NOT_IMPLEMENTED" in str(error):
        return "this variant's element type has no kernels on this CPU; open another variant"
    return "copy the artefact again, or export the model again"


def aligned(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    """The array as a graph wants it."""
    return np.ascontiguousarray(array, np.dtype(dtype))
