"""Whether a build fits this machine, found out before it begins."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from vlv_core.errors import ModelError, VlvError
from vlv_export.external_data import spans

BASE_BYTES = 750 * 2**20
"""of the host's memory: the compiler's libraries, and its work for a graph of many layers"""
FACTOR = 3.5
"""of a graph's weights: they are mapped, copied, and written once more. Measured with tensorrt-rtx
1.7 for four targets: graphs of 269, 988 and 971 MB took 1.5, 3.6 and 4.0 GB at the peak"""


def weight_bytes(graph: Path) -> int:
    """Bytes of a graph and of the files of weights that it names. Raises ModelError for damage."""
    files = {span.location for span in spans(graph)}
    try:
        return graph.stat().st_size + sum((graph.parent / file).stat().st_size for file in files)
    except OSError as error:
        raise ModelError(f"{graph}: {error.filename}: {error.strerror}") from error


def needed_bytes(graphs: Mapping[str, Path]) -> int:
    """Estimate of the host's peak memory while graphs are built, one after another."""
    return BASE_BYTES + int(FACTOR * max(map(weight_bytes, graphs.values()), default=0))


def available_bytes() -> int | None:
    """Memory of the host that can be had without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    words = next((line.split() for line in lines if line.startswith("MemAvailable:")), None)
    return 1024 * int(words[1]) if words else None


def check_memory(graphs: Mapping[str, Path]) -> None:
    """Raises VlvError where a build would need more of the host's memory than there is."""
    needed, there = needed_bytes(graphs), available_bytes()
    if there is not None and needed > there:
        raise VlvError(
            f"building needs about {needed / 1e9:.1f} GB of memory, and {there / 1e9:.1f} GB are "
            "available",
            hint="close other programs, or run 'vlv-export build OUT' on a larger machine",
        )


def check_disk(graphs: Mapping[str, Path], out: Path) -> None:
    """Raises VlvError where the engines will not fit beside each other in `out`."""
    needed, there = sum(map(weight_bytes, graphs.values())), shutil.disk_usage(out).free
    if needed > there:
        raise VlvError(
            f"the engines need about {needed / 1e9:.1f} GB, and {out} has {there / 1e9:.1f} GB "
            "left",
            hint="make room, or give an OUT on another disk",
        )
