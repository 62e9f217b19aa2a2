"""What is checked before an engine is opened: it is machine code for one library and a few GPUs.

Everything but the GPU itself is known without one. Each refusal is one sentence, with its mend.
"""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, cast

from vlv_core.errors import MissingExtra, ModelError
from vlv_export.tensorrt.libraries import library

if TYPE_CHECKING:
    from vlv_export.manifest import VariantEntry
    from vlv_export.runtime.engine.device import DeviceFacts
    from vlv_export.tensorrt.job import LibraryName

BINDINGS = "cuda-bindings"
AMPERE = 80
"""from here on run engines of the hardware level ampere+"""


def check_host(entry: VariantEntry, *, name: str) -> None:
    """System and packages fit the engine variant `name`.

    Raises ModelError if they do not, MissingExtra for a package that is absent.
    """
    _check_system(entry, name=name)
    found = library(cast("LibraryName", entry.exporter)).needed(needed_by=f"variant {name!r}")
    _check_version(entry, found, name=name)
    try:
        version(BINDINGS)
    except PackageNotFoundError:
        raise MissingExtra(BINDINGS, extra=entry.exporter, needed_by=f"variant {name!r}") from None


def check_device(entry: VariantEntry, facts: DeviceFacts | None, *, name: str) -> DeviceFacts:
    """The GPU, which the engines can run on. Raises ModelError for none, and for another."""
    if facts is None:
        raise ModelError(
            f"variant {name!r} runs on a GPU, and this machine shows none with a working driver",
            hint="install the GPU's driver (nvidia-smi shows whether it works), or open a variant "
            "of ONNX graphs",
        )
    built, needed = entry.sm, entry.compat.get("device_bytes")
    if not _runs_on(facts.sm, built, hardware=str(entry.compat.get("hardware", "same"))):
        known = "+".join(f"sm{each}" for each in built) or "no GPU that is known"
        raise ModelError(
            f"engine built for {known}, found sm{facts.sm} ({facts.name})",
            hint=f"rebuild: vlv-export build OUT --variant {name}",
        )
    if isinstance(needed, int) and facts.free_bytes < needed:
        raise ModelError(
            f"variant {name!r} needs {needed / 1e9:.1f} GB of GPU memory, and "
            f"{facts.free_bytes / 1e9:.1f} GB are free on {facts.name}",
            hint="end other programs on the GPU, or export with a smaller --batch",
        )
    return facts


def _check_system(entry: VariantEntry, *, name: str) -> None:
    here = {"os": platform.system(), "machine": platform.machine()}
    for fact, found in here.items():
        built = entry.compat.get(fact)
        if built != found:
            raise ModelError(
                f"engine built for {built or 'a system that it does not tell'}, found {found}",
                hint=f"rebuild: vlv-export build OUT --variant {name}",
            )


def _check_version(entry: VariantEntry, found: str, *, name: str) -> None:
    """Engines run on the version that built them; on later ones only if they were built so."""
    built = str(entry.compat.get("version", ""))
    later = bool(entry.compat.get("version_compatible")) and _numbers(found) >= _numbers(built)
    if found == built or (built and later):
        return
    package = entry.compat.get("runtime") or entry.exporter
    raise ModelError(
        f"engine built by {package} {built or 'of unknown version'}, found {found}",
        hint=f"rebuild: vlv-export build OUT --variant {name}; or pip install '{package}=={built}'",
    )


def _runs_on(sm: int, built: tuple[int, ...], *, hardware: str) -> bool:
    return sm in built or (hardware == "ampere+" and bool(built) and sm >= AMPERE)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d{1,9}", text)))
