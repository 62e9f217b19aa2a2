"""What a case plans, what one of its processes is told, and what that process found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlv_benchmarks.record import Row, Workload
from vlv_benchmarks.turn import Quality, Work

if TYPE_CHECKING:
    from vlv_core.registry import Plugins

Settings = dict[str, Any]
"""plain data, as JSON has it"""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a run was asked for."""

    model: str
    """bundled model's name, or folder"""
    plugins: "Plugins"
    cases: tuple[str, ...] = ()
    """empty: all that are in a run by themselves"""
    artefacts: tuple[Path, ...] = ()
    rows: tuple[str, ...] = ()
    """backends or variants; empty: all"""
    turns: int = 5
    threads: int = 1
    seed: int = 0
    quick: bool = False
    plugin_files: tuple[Path, ...] = ()
    price_per_hour_usd: float | None = None

    def size(self, quick: int, full: int) -> int:
        """How many: of a quick run, or of one to publish."""
        return quick if self.quick else full


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A row, and what its processes need to know."""

    row: Row
    settings: Settings = field(default_factory=dict)
    refusal: str = ""
    """why it cannot run here, in a sentence; empty: it can"""
    python: str = ""
    """the interpreter that runs it; empty: this one"""
    timeout_s: float = 300.0
    """of a turn"""


@dataclass(frozen=True, kw_only=True)
class CasePlan:
    """What a case's `plan(order)` answers. Made without torch, and without opening a model."""

    workload: Workload
    """`images` of the run's pictures are used; their sha256 is filled in"""
    rows: tuple[Planned, ...]
    draws: tuple[tuple[int, float], ...] = ()
    """steps and guidance that a reference picture is needed of"""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a process is given on stdin."""

    run: str
    """`module:function`, which takes this job and answers `Measured`"""
    row: Row
    turn: int = 0
    seed: int = 0
    quick: bool = False
    settings: Settings = field(default_factory=dict)
    inputs: str = ""
    """folder that all share: pictures/, reference/"""
    scratch: str = ""
    """an empty folder of this process alone"""
    spawned: float = 0.0
    """time.monotonic() of when the process was started"""
    plugin_files: tuple[str, ...] = ()

    def plugins(self) -> "Plugins":
        """As in the process that planned."""
        from vlv_core.plugins import load_plugins

        return load_plugins(files=[Path(each) for each in self.plugin_files])

    def pictures(self, count: int) -> list[Path]:
        """The first of the run's pictures, PNG files."""
        return sorted((Path(self.inputs) / "pictures").iterdir())[:count]

    @property
    def reference(self) -> Path:
        """The folder of what torch says; empty where torch could say nothing."""
        return Path(self.inputs) / "reference"


Stages = Mapping[str, Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a case's `run(job)` answers; see `turn.Turn` for the fields."""

    stages: Stages
    discarded: Stages = field(default_factory=dict)
    elapsed_ms: float | None = None
    counts: Mapping[str, float] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)
    work: Mapping[str, Work] = field(default_factory=dict)
    facts: Mapping[str, float | str] = field(default_factory=dict)
    peak_memory_mb: float | None = None
    """of another process than the one that answers; None: of that one"""
    output_sha256: str | None = None
    quality: Quality = field(default_factory=Quality)
