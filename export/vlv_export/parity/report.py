"""What was checked and what came out, as plain data: levels of checks, and one verdict.

A level that ran has checks. One that did not says why, and is never counted as passed.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from vlv_core.config import convert
from vlv_core.errors import ModelError
from vlv_core.files import write_atomically

SCHEMA = "vlv-parity/1"
LEVELS = {
    "L0": "files, graphs and precision",
    "L1": "each part against the eager model",
    "L2": "teacher-forced words",
    "L3": "captions, free-running",
    "L4": "meaning",
    "L5": "the engine: cache and memory",
    "L6": "a fresh process, without torch",
}
State = Literal["passed", "failed", "not applicable", "not run"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One figure of one output, and what it may be."""

    part: str
    output: str
    figure: str
    """what was measured, such as "relative L2" """
    value: float
    most: float | None = None
    """the highest value allowed"""
    least: float | None = None
    """the lowest value allowed; neither: reported, not judged"""
    worst: str = ""
    """where the worst case is"""
    distribution: dict[str, float] = field(default_factory=dict)

    @property
    def judged(self) -> bool:
        return self.most is not None or self.least is not None

    @property
    def passed(self) -> bool:
        """What is no finite number passes nothing that is judged."""
        if not self.judged:
            return True
        low = self.least is None or self.value >= self.least
        high = self.most is None or self.value <= self.most
        return math.isfinite(self.value) and low and high

    @property
    def allowed(self) -> str:
        if self.most is not None:
            return f"at most {self.most:g}"
        return f"at least {self.least:g}" if self.least is not None else "reported"

    def sentence(self) -> str:
        """`part 'encoder': relative L2 of 'prefix' is 0.031 (at most 1e-05), at batch 3, row 1`."""
        where = f", at {self.worst}" if self.worst else ""
        return (
            f"part {self.part!r}: {self.figure} of {self.output!r} is {self.value:.4g} "
            f"({self.allowed}){where}"
        )


@dataclass(frozen=True, kw_only=True)
class Level:
    """One level's outcome."""

    level: str
    state: State
    reason: str = ""
    """why it did not run, or does not apply"""
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    """what was counted apart, such as near-ties"""
    seconds: float = 0.0

    def failures(self) -> list[Check]:
        return [check for check in self.checks if not check.passed]


@dataclass(frozen=True, kw_only=True)
class Report:
    """The parity of one variant."""

    schema: str = SCHEMA
    model: str
    variant: str
    dtype: str
    levels: tuple[Level, ...]

    @property
    def verdict(self) -> State:
        """failed if any level failed; passed if one passed and none failed."""
        states = {level.state for level in self.levels}
        if "failed" in states:
            return "failed"
        return "passed" if "passed" in states else "not run"

    def failures(self) -> list[str]:
        """A sentence for each level that failed, with its first offending output."""
        return [
            f"{level.level}: {level.failures()[0].sentence()}"
            if level.failures()
            else f"{level.level}: {level.reason}"
            for level in self.levels
            if level.state == "failed"
        ]

    def summary(self) -> dict[str, Any]:
        """For the manifest: level -> its state, and its worst figures where it failed."""
        return {
            "verdict": self.verdict,
            "levels": {
                level.level: level.state if not level.reason else f"{level.state}: {level.reason}"
                for level in self.levels
            },
        }

    def level(self, name: str) -> Level:
        """Raises ModelError if it is not in the report."""
        for level in self.levels:
            if level.level == name:
                return level
        raise ModelError(f"the report of {self.variant!r} has no level {name!r}")


def judged(level: str, checks: list[Check], *, notes: tuple[str, ...] = ()) -> Level:
    """A level that ran: failed if one of its checks is."""
    state: State = "passed" if all(check.passed for check in checks) else "failed"
    return Level(level=level, state=state, checks=tuple(checks), notes=notes)


def broken(level: str, reason: str) -> Level:
    """A level that failed before it could measure anything."""
    return Level(level=level, state="failed", reason=reason)


def write_json(reports: Mapping[str, Report], path: Path) -> None:
    """Write the reports of variants, by name."""
    data = {"schema": SCHEMA, "variants": {name: to_data(item) for name, item in reports.items()}}
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, f"{text}\n".encode())


def read_json(path: Path) -> dict[str, Report]:
    """What `write_json` wrote. Raises ModelError or ConfigError for anything else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        variants = data["variants"]
        return {name: from_data(each, where=str(path)) for name, each in variants.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{path} is no parity report: {reason}") from error


def to_data(report: Report) -> dict[str, Any]:
    """Plain data; figures that are no numbers become text, because JSON has none."""
    plain: dict[str, Any] = _spelt(asdict(report))
    return {**plain, "verdict": report.verdict, "failures": report.failures()}


def from_data(data: Mapping[str, Any], *, where: str) -> Report:
    """The report that `to_data` made plain. Raises ConfigError."""
    own = {key: value for key, value in data.items() if key not in ("verdict", "failures")}
    return convert(Report, _read(own), where)


def _spelt(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _spelt(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spelt(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value}"
    return value


def _read(value: Any) -> Any:
    """Figures are read back as numbers; NaN as infinity, which passes as little."""
    if isinstance(value, list):
        return [_read(item) for item in value]
    if not isinstance(value, dict):
        return value
    read = {key: _read(item) for key, item in value.items()}
    if "value" in read:
        read["value"] = _number(read["value"])
        spread = read.get("distribution", {})
        read["distribution"] = {name: _number(item) for name, item in spread.items()}
    return read


def _number(value: Any) -> Any:
    return _SPELT.get(value, value) if isinstance(value, str) else value


_SPELT = {"nan": math.inf, "inf": math.inf, "-inf": -math.inf}
