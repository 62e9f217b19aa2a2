"""What an export is asked for, tells, and answers. The work itself is in `_pipeline`.

model -> parts -> neutral graphs -+-> variants -+-> artefact -> parity -> manifest -> OUT
      -> golden values, assets ---+-------------+
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vlv_core.errors import NotProved
from vlv_core.registry import Plugins
from vlv_export.exporters import Exporter, Planned
from vlv_export.parity.report import Report

if TYPE_CHECKING:
    from vlv_export.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the user wants."""

    model: str
    """a bundled model's name, a model's folder, or with `random_weights` a recipe's file"""
    out: Path
    exporters: Mapping[str, Exporter]
    """by flag"""
    dtypes: Mapping[str, Sequence[str]]
    """by flag; see `exporters.choose_dtypes`"""
    plugins: Plugins
    reconstruct: bool = False
    random_weights: bool = False
    force: bool = False
    default: str | None = None
    """name of the variant that runs if none is asked for; None takes the first that is proved"""
    threads: int | None = None
    """of torch and of parity; None leaves it to them"""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be made, and how large it is."""

    model: str
    weights: int
    """numbers"""
    parts: tuple[str, ...]
    variants: Mapping[str, tuple[Planned, ...]]
    """by exporter"""
    neutral_bytes: int
    """of the graphs that variants are made from, which go when OUT is whole"""

    @property
    def out_bytes(self) -> int:
        return sum(each.bytes for planned in self.variants.values() for each in planned)

    @property
    def peak_bytes(self) -> int:
        """of disk, while the export runs"""
        return self.neutral_bytes + self.out_bytes

    def names(self) -> list[str]:
        return [each.name for planned in self.variants.values() for each in planned]


class Watcher:
    """Told how far an export is. This one ignores it."""

    def begin(self, steps: Sequence[str]) -> None:
        """The names of all steps, in their order."""

    def step(self, name: str, *, kept: bool) -> None:
        """A step begins, and the one before it has ended; `kept`: it was done by an earlier run."""

    def tell(self, text: str) -> None:
        """What is being done within the step."""

    def progress(self, what: str, done: int, total: int) -> None:
        """How much of something countable is done within the step."""

    def end(self, *, done: bool) -> None:
        """Nothing more is done; `done`: the last step that began was finished, well or not."""


@contextmanager
def watched(watcher: Watcher, steps: Sequence[str]) -> Iterator[None]:
    """The watcher is told of these steps' begin and end, however they end."""
    watcher.begin(steps)
    done = False
    try:
        yield
        done = True
    except NotProved:
        # A proof that fails is a step that was finished.
        done = True
        raise
    finally:
        watcher.end(done=done)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A finished export."""

    folder: Path
    manifest: "Manifest"
    reports: Mapping[str, Report] = field(default_factory=dict)
    """by variant"""
