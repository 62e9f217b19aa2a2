"""`bench.json`: what was measured, where, on what work, and what it came to.

`bench.schema.json` beside this file is the same in JSON Schema, made by `vlv_benchmarks.schema`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from vlv_benchmarks.turn import TOTAL, Fact, Quality

SCHEMA: Final = "vlv-bench/1"
Status = Literal["ok", "not run", "failed", "unstable"]
"""unstable: measured, but the probe says that the machine itself changed meanwhile"""
Verdict = Literal["faster", "slower", "equal", "inconclusive"]
BoundBy = Literal["compute", "memory"]
Value = bool | int | float | str
Group = tuple[str, str, int, str, int, tuple[tuple[str, Value], ...]]
"""case, model, batch, device, threads, options"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contestant: what is run, on what, and how."""

    case: str
    backend: str
    label: str
    """what people read in tables; no part of the key"""
    model: str
    variant: str = ""
    dtype: str = ""
    batch: int = 1
    device: str = "cpu"
    threads: int = 1
    peer: bool = False
    """somebody else's program"""
    reference: bool = False
    """whether the other rows of its group are compared with it"""
    options: dict[str, Value] = field(default_factory=dict)
    """what its work is, where a case has several: rows are compared with equal ones alone"""

    @property
    def key(self) -> str:
        """Its name in every file: the same row has it in each run."""
        named = (self.case, self.backend, self.model, self.variant, self.dtype)
        placed = (f"b{self.batch}", self.device, f"t{self.threads}")
        options = (f"{name}={value}" for name, value in sorted(self.options.items()))
        return "/".join(part for part in (*named, *placed, *options) if part)

    @property
    def group(self) -> Group:
        """Rows that do the same work on the same means, so that their times may be compared."""
        work = tuple(sorted(self.options.items()))
        return self.case, self.model, self.batch, self.device, self.threads, work


@dataclass(frozen=True, kw_only=True)
class Run:
    """Who measured, and how to do it again."""

    id: str
    argv: tuple[str, ...]
    git_commit: str
    git_dirty: bool
    seed: int
    started: str
    """UTC, ISO 8601"""
    quick: bool = False
    """too few samples to publish"""
    price_per_hour_usd: float | None = None
    """of this machine, for the cost of captions; None: nobody said"""


@dataclass(frozen=True, kw_only=True)
class Env:
    """The machine and what is installed."""

    os: str
    cpu_model: str
    cpu_isa: tuple[str, ...]
    cpu_threads: int
    memory_mb: float
    gpu: str | None = None
    driver: str | None = None
    libraries: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    """environment variables that change speed, where set"""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A model that rows run."""

    sha256: str
    plugins: tuple[str, ...] = ()
    parameters: dict[str, int] = field(default_factory=dict)
    """by part"""
    bytes: dict[str, int] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    random_weights: bool = False


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a case gives to each of its rows, the same to all."""

    summary: str
    """in a sentence"""
    images: int = 0
    images_sha256: str | None = None
    prompt: str | None = None
    output_tokens: int | None = None
    """fixed for speed; None: captions end where they end"""
    options: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """What a device can do at best, measured just before the run."""

    gflops: dict[str, float]
    """of a large matrix product, by arithmetic: float32, bfloat16, int8 (operations count alike)"""
    gbps: float
    """of a large copy, bytes read and written"""
    measured: str
    """how, in a sentence"""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds of a stage. `median` and its interval are of the turns' medians, percentiles of
    all samples together; None where there are too few samples for it."""

    n: int
    median: float
    low: float
    high: float
    p50: float
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    mean: float
    """of all samples: what stages add up in"""


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Median over turns of what was done / wall clock."""

    images_per_s: float | None = None
    tokens_per_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A figure that only its case has: the median over turns, and its interval."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The least time that a stage can take on this machine, and how near it came."""

    bound: BoundBy
    arithmetic: str
    operations: float
    """of a call"""
    bytes: float
    """of a call"""
    t_bound_ms: float
    """of a call"""
    share: float
    """t_bound / t_measured: 1 is perfect; more means that a cache helped beyond the copy's rate"""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Speed against the group's reference, turn by turn: above 1, this row is faster."""

    to: str
    """key of the reference"""
    pairs: int
    median: float
    low: float
    high: float
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a row. All figures follow from the raw samples."""

    row: Row
    status: Status
    reason: str = ""
    turns: int = 0
    n: int = 0
    """kept calls"""
    discarded: int = 0
    """calls to warm up"""
    drift: float | None = None
    """of the probe: 0.03 is 3 %"""
    latency_ms: dict[str, Latency] = field(default_factory=dict)
    throughput: Throughput = field(default_factory=Throughput)
    measures: dict[str, Measure] = field(default_factory=dict)
    memory_mb: float | None = None
    """the highest of all turns"""
    roofline: dict[str, Bound] = field(default_factory=dict)
    quality: Quality = field(default_factory=Quality)
    facts: dict[str, Fact] = field(default_factory=dict)
    output_sha256: tuple[str, ...] = ()
    """distinct ones: more than one means that turns disagreed"""
    ratio: Ratio | None = None

    @property
    def timed(self) -> bool:
        """Whether its times may be printed: measured, and not of a row that says wrong things."""
        right = self.quality.parity != "failed"
        return self.status in ("ok", "unstable") and right and TOTAL in self.latency_ms


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The raw samples beside the record."""

    turns: int
    sha256: str
    """of the file"""


@dataclass(frozen=True, kw_only=True)
class Record:
    """`bench.json`."""

    schema: Literal["vlv-bench/1"] = SCHEMA
    run: Run
    env: Env
    model: dict[str, ModelFacts]
    """by the name that rows use"""
    workload: dict[str, Workload]
    """by case"""
    ceiling: dict[str, Ceiling]
    """by device"""
    samples: Samples
    result: tuple[Result, ...]
    """one for each planned row, in the order of the plan"""


def reference(rows: Sequence[Row], row: Row) -> Row | None:
    """What a row is compared with: the marked row of its group, else the first that is ours."""
    group = [each for each in rows if each.group == row.group]
    marked = [each for each in group if each.reference]
    ours = [each for each in group if not each.peer]
    found = next(iter([*marked, *ours]), None)
    return None if found == row else found
