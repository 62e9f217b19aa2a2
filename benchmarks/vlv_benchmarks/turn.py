"""What one child process measured: raw samples, kept for ever, from which all else is computed."""

import math
from dataclasses import dataclass, field
from typing import Literal

TOTAL = "total"
"""the stage that every measured turn has: one whole call, as the case defines it"""
Fact = int | float | str
Parity = Literal["passed", "failed", "none"]
"""none: the case compares nothing, as one that only imports a library"""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What the probe reached: a fixed matrix product and a fixed copy."""

    gflops: float
    gbps: float
    """bytes read and written per second, / 1e9"""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The probe just before a turn and just after it."""

    before: Rates
    after: Rates


@dataclass(frozen=True, kw_only=True)
class Work:
    """The least that a stage has to do, summed over the turn's kept calls."""

    operations: float = 0.0
    """a multiplication and an addition are two"""
    bytes: float = 0.0
    """read and written at least once: weights, cache, activations that fit nowhere else"""
    arithmetic: str = "float32"
    """the rate of the ceiling that bounds it: what is multiplied, not what is stored"""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Whether a row says what it should. No time is printed where parity failed."""

    parity: Parity = "none"
    reason: str = ""
    """of a failure, in a sentence"""
    figures: dict[str, float] = field(default_factory=dict)
    """by name: worst cosine, share of equal captions, CIDEr"""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One row run once by one fresh process.

    Raises ValueError for a turn that holds neither an error nor a whole call, and for times that
    are not finite and positive.
    """

    row: str
    """the row's key"""
    turn: int
    """0 for the first; rows with equal numbers ran next to each other, and are compared in pairs"""
    started: str
    """UTC, ISO 8601"""
    stages: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """milliseconds of each kept call, by stage; "total" is the whole call"""
    discarded: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """milliseconds of the warm-up calls, by stage"""
    elapsed_ms: float | None = None
    """wall clock of the kept calls, where they overlap; None: they ran one after another"""
    counts: dict[str, float] = field(default_factory=dict)
    """summed over the kept calls: images, tokens; absent where a rate of them says nothing, as in a
    case that starts a process"""
    measures: dict[str, float] = field(default_factory=dict)
    """what only this case has, units in the names: goodput_per_s, startup_seconds"""
    work: dict[str, Work] = field(default_factory=dict)
    """by stage; a stage whose least work nobody knows is absent"""
    facts: dict[str, Fact] = field(default_factory=dict)
    """what must not vary from run to run: graph nodes, artefact bytes, allocations per step"""
    peak_memory_mb: float | None = None
    """largest resident set of the process, or memory allocated on its device; 1 MB is 1e6 bytes"""
    output_sha256: str | None = None
    quality: Quality = field(default_factory=Quality)
    probe: Probe | None = None
    error: str | None = None
    """why the turn failed, in a sentence; such a turn has no samples"""

    def __post_init__(self) -> None:
        if self.error is None and not self.stages.get(TOTAL):
            raise ValueError(f"turn {self.turn} of {self.row} has no samples of {TOTAL!r}")
        for stage, samples in [*self.stages.items(), *self.discarded.items()]:
            if not all(0 < sample < math.inf for sample in samples):
                raise ValueError(
                    f"turn {self.turn} of {self.row}: {stage!r} has a time that is no time"
                )

    @property
    def seconds(self) -> float:
        """Wall clock of the kept calls."""
        spent = self.elapsed_ms if self.elapsed_ms is not None else sum(self.stages[TOTAL])
        return spent / 1e3
