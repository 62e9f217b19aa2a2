"""Opening the engines of a variant on this machine's GPU, after preflight."""

from hashlib import sha256
from pathlib import Path
from typing import cast

from vlv_core.errors import ModelError
from vlv_export.manifest import Manifest
from vlv_export.preflight_engines import check_device
from vlv_export.runtime.engine.sessions import EngineSessions
from vlv_export.tensorrt.job import LibraryName


def open_engines(folder: Path, manifest: Manifest, variant: str) -> EngineSessions:
    """Sessions on the GPU. `check_artefact` has passed the variant: its bytes are the manifest's.

    Raises MissingExtra if a library is absent, ModelError or VlvError if the GPU cannot be used.
    """
    from vlv_export.runtime.engine._device import CudaDevice, find_device
    from vlv_export.runtime.engine._tensorrt import TensorRt, TensorRtEngine

    entry = manifest.variant(variant)
    facts = check_device(entry, find_device(), name=variant)
    device = CudaDevice()
    library = TensorRt(
        cast(LibraryName, entry.exporter),
        device,
        sm=facts.sm,
        host_code=bool(entry.compat.get("version_compatible")),
    )

    def opened(part: str, sessions: EngineSessions) -> TensorRtEngine:
        graph, path = sessions.graph(part), sessions.file(part)
        data, told = path.read_bytes(), manifest.file(graph.file).sha256
        # The very bytes that are loaded: files may change after preflight has read them.
        if sha256(data).hexdigest() != told:
            raise ModelError(
                f"{path} was changed since it was built: its sha256 is another",
                hint="copy the artefact again",
            )
        return library.open(data, sha256=told, file=graph.file)

    return EngineSessions(folder, manifest, variant, device=device, opener=opened)
