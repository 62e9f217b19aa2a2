"""The paper's filters: what is known of a picture before it is opened decides whether it is used.

Widths, heights and watermark probabilities stand in the data beside the pictures, under the names
that img2dataset gives them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlv_core.errors import ConfigError

REASONS = ("field_missing", "side_too_short", "aspect", "watermark")
"""why a picture is left out; the first that holds is counted"""


@dataclass(frozen=True)
class Filters:
    """What pictures must be like; by default all pass."""

    min_side: int = 0
    """the shorter side, pixels, is at least this"""
    min_aspect: float = 0.0
    """width / height is at least this"""
    max_aspect: float | None = None
    """width / height is at most this"""
    max_watermark: float | None = None
    """the probability of a watermark is below this"""
    width: str = "original_width"
    """field or column, pixels"""
    height: str = "original_height"
    """field or column, pixels"""
    watermark: str = "pwatermark"
    """field or column, probability"""
    missing: Literal["keep", "drop"] = "keep"
    """what becomes of pictures without a field that a filter needs"""

    def __post_init__(self) -> None:
        if self.max_aspect is not None and self.max_aspect < self.min_aspect:
            raise ConfigError(
                f"filters: max_aspect {self.max_aspect} is below min_aspect {self.min_aspect}"
            )

    @property
    def needs_size(self) -> bool:
        return bool(self.min_side or self.min_aspect or self.max_aspect is not None)

    @property
    def fields(self) -> tuple[str, str, str]:
        """The names of width, height and watermark."""
        return self.width, self.height, self.watermark


class Facts(NamedTuple):
    """What is known of n pictures, float32 (n,) each, NaN where it is not."""

    width: NDArray[np.float32]
    height: NDArray[np.float32]
    watermark: NDArray[np.float32]


def verdicts(filters: Filters, facts: Facts) -> NDArray[np.uint8]:
    """(n,) 0 for pictures that pass, or 1 + the place in `REASONS` of why they do not."""
    width, height = (np.where(side > 0, side, np.nan) for side in (facts.width, facts.height))
    out = np.zeros(len(width), np.uint8)

    def leave_out(reason: str, where: NDArray[np.bool_]) -> None:
        out[(out == 0) & where] = 1 + REASONS.index(reason)

    if filters.missing == "drop":
        if filters.needs_size:
            leave_out("field_missing", np.isnan(width) | np.isnan(height))
        if filters.max_watermark is not None:
            leave_out("field_missing", np.isnan(facts.watermark))
    # Comparisons with NaN are false, so that what is unknown passes.
    leave_out("side_too_short", np.fmin(width, height) < filters.min_side)
    leave_out("aspect", width < filters.min_aspect * height)
    if filters.max_aspect is not None:
        leave_out("aspect", width > filters.max_aspect * height)
    if filters.max_watermark is not None:
        leave_out("watermark", facts.watermark >= filters.max_watermark)
    return out


def counted(codes: NDArray[np.uint8], reasons: tuple[str, ...] = REASONS) -> dict[str, int]:
    """How often each reason occurs among codes of 0 (none) or 1 + its place; absent ones left out.

    >>> counted(np.array([0, 2, 2], np.uint8))
    {'side_too_short': 2}
    """
    counts = np.bincount(codes, minlength=len(reasons) + 1)[1:]
    return {reason: int(n) for reason, n in zip(reasons, counts, strict=True) if n}


def number(value: Any) -> float:
    """A field's number, NaN if it holds none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return math.nan
    return found if math.isfinite(found) else math.nan
