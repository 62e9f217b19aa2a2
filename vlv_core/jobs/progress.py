"""How far a job is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counts:
    """What became of a job's inputs; once it is complete, total = ok + failed + skipped."""

    total: int
    ok: int = 0
    failed: int = 0
    skipped: int = 0
    """finished by an earlier run"""
    skipped_failed: int = 0
    """those of the skipped that had failed"""
    sidecars_kept: int = 0
    """.txt files that existed with other words, and were left alone"""

    @property
    def remaining(self) -> int:
        """Inputs that a stop left for the next run."""
        return self.total - self.ok - self.failed - self.skipped

    def __str__(self) -> str:
        parts = f"{self.total} in = {self.ok} ok + {self.failed} failed + {self.skipped} skipped"
        return f"{parts} + {self.remaining} not reached" if self.remaining else parts


@dataclass(frozen=True)
class Progress:
    """One report, after each batch."""

    counts: Counts
    elapsed_s: float

    @property
    def rate(self) -> float:
        """Pictures of this run a second."""
        return (self.counts.ok + self.counts.failed) / max(self.elapsed_s, 1e-9)

    @property
    def left_s(self) -> float:
        """Seconds to go at this rate."""
        return self.counts.remaining / self.rate if self.rate else float("inf")
