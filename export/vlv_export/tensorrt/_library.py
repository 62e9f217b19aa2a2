"""The compiler itself: imported late, and all that differs between the two, in one place.

Their Python modules are one API (docs: TensorRT 11, "Python API"; TensorRT-RTX 1.7). What differs:
tensorrt-rtx is told its targets and needs no GPU, while tensorrt builds for the GPU that is there,
measures kernels (and keeps the timings), and can be asked for engines that other GPUs or later
versions run. Only one of them can live in a process, as both bring the same symbols.
"""

import hashlib
import importlib
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from vlv_core.errors import UsageError, VlvError
from vlv_export.tensorrt.caches import cache_file, read_cache, write_cache
from vlv_export.tensorrt.gpus import gpus
from vlv_export.tensorrt.job import BuildJob, LibraryName
from vlv_export.tensorrt.libraries import LibraryFacts, check_targets, library

LEAST_MAJOR = 11
"""of tensorrt: from here on networks are strongly typed, and caches are updated in place"""
_HARDWARE = {"same": "NONE", "same-sm": "SAME_COMPUTE_CAPABILITY", "ampere+": "AMPERE_PLUS"}


def open_library(name: LibraryName) -> "Library":
    """Import a compiler.

    Raises MissingExtra if it is absent, UsageError if it is too old, VlvError if it does not load
    or the other one is there.
    """
    facts = library(name)
    facts.needed()
    other = library("trt" if name == "rtx" else "rtx")
    if other.module in sys.modules:
        raise VlvError(f"{facts.module} cannot be used in a process that has used {other.module}")
    try:
        module = importlib.import_module(facts.module)
    except (ImportError, OSError, RuntimeError) as error:
        raise VlvError(
            f"{facts.package} {facts.version} is installed and does not load: {error}",
            hint=f"pip install --force-reinstall {facts.package}",
        ) from error
    return _Rtx(module, facts) if name == "rtx" else _Trt(module, facts)


class Library(ABC):
    """A compiler's module, and what the two do each in its own way."""

    def __init__(self, module: Any, facts: LibraryFacts) -> None:
        self.module = module
        self.package = facts.package
        self.version = str(module.__version__)

    @abstractmethod
    def targets(self, job: BuildJob) -> tuple[int, ...]:
        """Compute capabilities that the job's engines will be for. Raises UsageError, VlvError."""

    @abstractmethod
    def configure(self, config: Any, job: BuildJob, *, targets: tuple[int, ...]) -> None:
        """Set what only this compiler has."""

    @abstractmethod
    def finish(self, config: Any) -> None:
        """Keep what the build has learned for the next one."""


class _Rtx(Library):
    def targets(self, job: BuildJob) -> tuple[int, ...]:
        check_targets("rtx", job.sm, job.dtype)
        return tuple(sorted(set(job.sm)))

    def configure(self, config: Any, job: BuildJob, *, targets: tuple[int, ...]) -> None:
        config.num_compute_capabilities = len(targets)
        for index, sm in enumerate(targets):
            known = self.module.ComputeCapability.__members__
            if f"SM{sm}" not in known:
                there = ", ".join(each.lower() for each in known if each.startswith("SM"))
                raise VlvError(
                    f"{self.package} {self.version} does not know sm{sm}; it has {there}",
                    hint="leave it out of --sm, or upgrade the package",
                )
            config.set_compute_capability(known[f"SM{sm}"], index)

    def finish(self, config: Any) -> None:
        """It measures no kernels, so there is nothing to keep."""


class _Trt(Library):
    def __init__(self, module: Any, facts: LibraryFacts) -> None:
        super().__init__(module, facts)
        if int(self.version.split(".")[0]) < LEAST_MAJOR:
            raise UsageError(
                f"tensorrt {self.version} is installed, and engines need {LEAST_MAJOR} or later",
                hint=f"pip install --upgrade 'tensorrt>={LEAST_MAJOR}'",
            )
        self._cache: Path | None = None
        self._timings: Any = None

    def targets(self, job: BuildJob) -> tuple[int, ...]:
        check_targets("trt", job.sm, job.dtype)
        found = gpus()
        if not found:
            raise VlvError(
                "tensorrt builds on the GPU that an engine is for, and this machine shows none",
                hint="run 'vlv-export build OUT' on the target; --rtx needs no GPU",
            )
        own = found[0]
        if job.sm and tuple(job.sm) != (own.sm,):
            raise VlvError(
                f"--sm is {job.sm[0]}, and the GPU here ({own.name}) is sm{own.sm}",
                hint="run 'vlv-export build OUT' on the target",
            )
        check_targets("trt", (own.sm,), job.dtype)
        return (own.sm,)

    def configure(self, config: Any, job: BuildJob, *, targets: tuple[int, ...]) -> None:
        levels = self.module.HardwareCompatibilityLevel
        config.hardware_compatibility_level = getattr(levels, _HARDWARE[job.hardware])
        if job.version_compatible:
            config.set_flag(self.module.BuilderFlag.VERSION_COMPATIBLE)
        # Timings are by kernel and shape, so all parts of a job, and its rebuilds, share one file.
        key = hashlib.sha256(f"timing {job.dtype}".encode()).hexdigest()
        self._cache = cache_file(
            self.package, self.version, sm=targets[0], sha256=key, root=job.cache
        )
        for data in (read_cache(self._cache), b""):
            # The cache must outlive the build; one of another driver is refused here or there.
            self._timings = config.create_timing_cache(data)
            if self._timings and config.set_timing_cache(self._timings, ignore_mismatch=False):
                break

    def finish(self, config: Any) -> None:
        cache = config.get_timing_cache()
        if cache is not None and self._cache is not None:
            write_cache(self._cache, bytes(memoryview(cache.serialize())))
