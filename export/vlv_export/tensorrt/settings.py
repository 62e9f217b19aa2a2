"""What `--sm`, `--capacity` and the other options of engines say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from vlv_core.errors import UsageError, nearest
from vlv_core.specs import ExporterOption
from vlv_export.tensorrt.job import Hardware, LibraryName
from vlv_export.tensorrt.profiles import BATCHES

ROOM = 300
"""tokens of a caption, for which the cache has room unless `--capacity` says another size"""
STEP = 64
"""the cache's size is a multiple of it, tokens"""

SHARED = (
    ExporterOption("sm", "LIST", "GPUs to build engines for, such as 86,89,120."),
    ExporterOption(
        "capacity", "LIST", f"Sizes of the head's cache, tokens; prefix + {ROOM} if left out."
    ),
    ExporterOption(
        "batch", "LIST", f"Rows at once to optimise for, such as 1,8,32; {BATCHES[0]} if left out."
    ),
)
TRT_ALONE = (
    ExporterOption(
        "hardware", "WHICH", f"GPUs that run the engine: {', '.join(get_args(Hardware))}."
    ),
    ExporterOption("version-compatible", "", "Later versions of TensorRT run the engine too."),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of one exporter of engines, read."""

    library: LibraryName
    sm: tuple[int, ...] = ()
    """empty: the library's own choice"""
    capacities: tuple[int, ...] = ()
    """ascending; empty: one, by the model"""
    batches: tuple[int, ...] = BATCHES
    """ascending"""
    hardware: Hardware = "same"
    version_compatible: bool = False

    def capacities_of(self, *, prefix_length: int, max_length: int) -> tuple[int, ...]:
        """Tokens that the head's caches hold, ascending. Raises UsageError for one that does not
        fit the model."""
        for each in self.capacities:
            if not prefix_length < each <= max_length:
                raise UsageError(
                    f"--capacity {each} does not fit the model, whose prefix has {prefix_length} "
                    f"tokens and whose head holds {max_length}",
                    hint=f"use {prefix_length + 1} to {max_length}",
                )
        steps = -(-(prefix_length + ROOM) // STEP)
        return self.capacities or (min(steps * STEP, max_length),)


def read_settings(library: LibraryName, options: Mapping[str, str]) -> Settings:
    """Raises UsageError for a value that makes no sense."""
    return Settings(
        library=library,
        sm=read_sm(options.get("sm", "")),
        capacities=tuple(sorted(set(_numbers("capacity", options.get("capacity", ""))))),
        batches=tuple(sorted(set(_numbers("batch", options.get("batch", ""))))) or BATCHES,
        hardware=_hardware(options.get("hardware", "same")),
        version_compatible="version-compatible" in options,
    )


def read_sm(text: str) -> tuple[int, ...]:
    """ "89,86" -> (86, 89). Raises UsageError for what is no list of numbers."""
    return tuple(sorted(set(_numbers("sm", text))))


def named(library: LibraryName, dtype: str, sm: Sequence[int]) -> str:
    """A variant's name, such as rtx-bf16-sm86+89."""
    return f"{library}-{dtype}" + (f"-sm{'+'.join(map(str, sm))}" if sm else "")


def _numbers(option: str, text: str) -> list[int]:
    words = [word.strip().removeprefix("sm") for word in text.split(",") if word.strip()]
    for word in words:
        if not word.isdecimal() or int(word) < 1:
            raise UsageError(f"--{option} takes whole numbers from 1 on with commas, not {text!r}")
    return list(map(int, words))


def _hardware(text: str) -> Hardware:
    known: tuple[Hardware, ...] = get_args(Hardware)
    for each in known:
        if each == text:
            return each
    raise UsageError(f"no --hardware {text!r}{nearest(text, known)}; there are {', '.join(known)}")
