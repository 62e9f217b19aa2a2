"""The two compilers: what is installed and what each builds for, found out without importing it."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from vlv_core.errors import MissingExtra, UsageError
from vlv_export.tensorrt.job import Dtype, LibraryName

RTX_TARGETS = (75, 80, 86, 89, 120, 121)
"""compute capabilities that tensorrt-rtx 1.7 builds for, wherever it runs"""
RTX_DEFAULT = (80, 86, 89, 120)
"""those of GPUs in common use; the code for several of them costs an engine next to nothing"""
LEAST_SM = 75
"""the oldest compute capability that TensorRT 11 builds for (its support matrix)"""
BF16_FROM = 80
"""the first compute capability with bfloat16"""


@dataclass(frozen=True)
class LibraryFacts:
    """One of the two."""

    name: LibraryName
    package: str
    """the pip package"""
    module: str
    version: str | None
    """None if it is not installed"""

    def needed(self, *, needed_by: str = "") -> str:
        """The version. Raises MissingExtra with the pip line if the library is absent."""
        if self.version is None:
            raise MissingExtra(
                self.package, extra=self.name, needed_by=needed_by or f"--{self.name}"
            )
        return self.version


def library(name: LibraryName) -> LibraryFacts:
    """What is known of a compiler."""
    package = {"rtx": "tensorrt-rtx", "trt": "tensorrt"}[name]
    module = package.replace("-", "_")
    found = None
    if find_spec(module) is not None:
        try:
            found = version(package)
        except PackageNotFoundError:
            # Packages for one CUDA version bear it in their name; the module is the same.
            found = _version_of_variant(package)
    return LibraryFacts(name, package, module, found)


def _version_of_variant(package: str) -> str | None:
    for suffix in ("cu13", "cu12"):
        try:
            return version(f"{package}-{suffix}")
        except PackageNotFoundError:
            continue
    return None


def default_targets(dtype: Dtype) -> tuple[int, ...]:
    """What `--rtx` builds for where nobody says: all of the common ones that know the dtype."""
    return tuple(sm for sm in RTX_DEFAULT if dtype != "bf16" or sm >= BF16_FROM)


def check_targets(name: LibraryName, sm: Sequence[int], dtype: Dtype) -> None:
    """Raises UsageError for a compute capability that the library or the dtype does not know."""
    if name == "rtx":
        for each in sm:
            if each not in RTX_TARGETS:
                raise UsageError(
                    f"tensorrt-rtx does not build for sm{each}; it builds for "
                    f"{', '.join(f'sm{known}' for known in RTX_TARGETS)}",
                    hint="vlv-export MODEL --trt builds for the GPU of the machine that it runs on"
                    if each >= LEAST_SM
                    else None,
                )
    elif len(sm) > 1:
        raise UsageError(
            f"tensorrt builds for one GPU, and --sm names {len(sm)}",
            hint="--rtx builds for several",
        )
    for each in sm:
        if each < LEAST_SM:
            raise UsageError(f"tensorrt does not build for sm{each}; sm{LEAST_SM} is the first")
        if dtype == "bf16" and each < BF16_FROM:
            raise UsageError(
                f"sm{each} has no bfloat16; sm{BF16_FROM} and later have it",
                hint="export with --dtype fp16, or leave it out of --sm",
            )
