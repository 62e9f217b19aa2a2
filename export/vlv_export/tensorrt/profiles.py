"""Optimisation profiles: how long each axis may be in an engine, planned and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vlv_core.errors import UsageError
from vlv_export.tensorrt.job import Profile, Range

if TYPE_CHECKING:
    from vlv_core.parts import Axis

MAX_BATCH = 32
CANDIDATES: Range = (1, 4, 256)
"""of `k`, the continuations that a head answers for each row"""
PREFILL, DECODE = 0, 1
"""places of the head's two profiles"""


def plan_profiles(
    axes: Mapping[str, Mapping[str, Axis]], *, max_batch: int = MAX_BATCH, prefix_length: int
) -> dict[str, tuple[Profile, ...]]:
    """The profiles of each part, given its axes (`ExportPart.axes`).

    A head (`head`, `head.<capacity>`) has two: one that reads up to `prefix_length` positions, and
    one that reads a single one. Any other part has one. No part takes more rows than its own batch
    axis allows. Raises UsageError for a size below 1.
    """
    if max_batch < 1 or prefix_length < 1:
        raise UsageError(f"--max-batch is {max_batch}; use 1 or more")
    return {
        part: _head(own["batch"], max_batch, prefix_length)
        if part.split(".")[0] == "head"
        else ({name: _limits(name, axis, max_batch) for name, axis in own.items()},)
        for part, own in axes.items()
    }


def _head(rows: Axis, max_batch: int, prefix_length: int) -> tuple[Profile, ...]:
    batch = _batch(rows, max_batch)
    lengths: tuple[Range, Range] = ((1, prefix_length, prefix_length), (1, 1, 1))
    return tuple({"batch": batch, "length": length, "k": CANDIDATES} for length in lengths)


def _limits(name: str, axis: Axis, max_batch: int) -> Range:
    if name == "batch":
        return _batch(axis, max_batch)
    return axis.low, axis.typical, axis.high


def _batch(axis: Axis, max_batch: int) -> Range:
    most = min(max_batch, axis.high)
    return 1, min(axis.typical, most), most


def check_profiles(part: str, profiles: Sequence[Profile], needed: Mapping[str, bool]) -> None:
    """Raises UsageError unless each profile gives each needed name, and nothing else, a range.

    needed: dynamic axes and sizing inputs of the part -> whether the network takes it as values
    """
    if needed and not profiles:
        raise UsageError(f"part {part!r} has dynamic axes {', '.join(needed)} and no profile")
    for index, profile in enumerate(profiles):
        where = f"profile {index} of part {part!r}"
        if missing := [name for name in needed if name not in profile]:
            raise UsageError(f"{where} gives no range for {', '.join(missing)}")
        if foreign := [name for name in profile if name not in needed]:
            known = ", ".join(needed) or "none"
            raise UsageError(f"{where} names {', '.join(foreign)}; the graph's axes are {known}")
        for name, (least, typical, most) in profile.items():
            if not 0 <= least <= typical <= most or most < 1:
                raise UsageError(
                    f"{where}: {name} is {least}, {typical}, {most}; "
                    "give shortest, typical and longest in this order"
                )
