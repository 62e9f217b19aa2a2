"""Optimisation profiles: how long each axis may be in an engine, planned and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vlv_core.errors import UsageError
from vlv_export.tensorrt.job import Profile, Range

if TYPE_CHECKING:
    from vlv_core.parts import Axis

BATCHES = (32,)
"""rows at once that engines are optimised for, ascending, unless `--batch` says others"""
CANDIDATES: Range = (1, 4, 256)
"""of `k`, the continuations that a head answers for each row"""


def plan_profiles(
    axes: Mapping[str, Mapping[str, Axis]],
    *,
    batches: Sequence[int] = BATCHES,
    prefix_length: int,
) -> dict[str, tuple[Profile, ...]]:
    """The profiles of each part, given its axes (`ExportPart.axes`).

    A part has one for each of `batches`; a head (`head`, `head.<capacity>`) two: one that reads up
    to `prefix_length` positions, and one that reads a single one. No part takes more rows than its
    own batch axis allows. Raises UsageError for a size below 1.
    """
    if not batches or min(batches) < 1 or prefix_length < 1:
        raise UsageError(f"--batch is {','.join(map(str, batches))}; use 1 or more")
    return {
        part: tuple(
            profile
            for rows in _rows(own["batch"], batches)
            for profile in (
                _head(rows, prefix_length)
                if part.split(".")[0] == "head"
                else [{name: _limits(axis) for name, axis in own.items()} | {"batch": rows}]
            )
        )
        for part, own in axes.items()
    }


def _head(rows: Range, prefix_length: int) -> list[Profile]:
    """Prefill, and a step."""
    lengths: tuple[Range, Range] = ((1, prefix_length, prefix_length), (1, 1, 1))
    return [{"batch": rows, "length": length, "k": CANDIDATES} for length in lengths]


def _limits(axis: Axis) -> Range:
    return axis.low, axis.typical, axis.high


def _rows(axis: Axis, batches: Sequence[int]) -> list[Range]:
    """A single one is best at what is typical, several each at their own end. All begin at 1: the
    last piece of a long batch may be short."""
    ends = sorted({min(each, axis.high) for each in batches})
    if len(ends) == 1:
        return [(1, min(axis.typical, ends[0]), ends[0])]
    return [(1, end, end) for end in ends]


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
