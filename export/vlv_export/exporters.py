"""What an exporter is. A plugin offers one by the hook `vlv_exporters`; its name is its flag.

    @hookimpl
    def vlv_exporters():
        return [ExporterSpec(name="mine", summary="...", run="my_package._exporter:Mine")]

`vlv-export MODEL -o OUT --mine` then calls `Mine()` for an `Exporter`, asks it what it would make
(`plan`), and has it make each variant (`build`) from the model's neutral graphs: float32 ONNX with
operations of the domain `vlv`, whose meaning is that of `vlv_core.ops`. Capturing, golden values,
parity, hashes, manifest and card are not an exporter's business.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from vlv_core.errors import UsageError, nearest
from vlv_core.parts import ExportPart
from vlv_core.registry import Plugins, require
from vlv_core.specs import ExporterSpec, resolve
from vlv_export.golden import Golden
from vlv_export.manifest import VariantEntry
from vlv_export.parity.report import Report


@dataclass(frozen=True)
class Weights:
    """How many numbers a model's graphs hold, each tensor counted once."""

    matrices: int
    """in tensors of two axes, which quantisers shrink"""
    rest: int
    """norms, biases, convolutions, buffers"""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be exported."""

    model: str
    """its name"""
    dtypes: Sequence[str]
    """those of `--dtype` that this exporter knows, or its default"""
    parts: Sequence[str]
    """their names; the contracts come with the `Job`"""
    weights: Weights
    """of all parts together"""
    head: Weights = Weights(0, 0)
    """of the head alone, which some exporters make several times"""
    prefix_length: int = 0
    """tokens that the head starts from"""
    max_length: int = 0
    """the head's longest prefix + caption, tokens"""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A variant that an exporter would make."""

    name: str
    """unique in the artefact, such as onnx-int8"""
    dtype: str
    bytes: int
    """estimate of its size on disk"""
    of: str = ""
    """another variant that it is made from, planned before it; `Job.graphs` are then that one's"""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """what else decides how it is made, as JSON knows it"""
    waits: str = ""
    """why it cannot be made on this machine; `build` then checks what can be checked here, and its
    answer is `pending`"""
    not_run: str = ""
    """why it cannot be run on this machine; it is then made, and proved as far as graphs say"""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One variant to make."""

    planned: Planned
    graphs: Mapping[str, Path]
    """part -> its neutral graph, or that of the variant `planned.of`; weights are beside it"""
    parts: Mapping[str, ExportPart]
    """the contracts, without their modules"""
    of: VariantEntry | None = None
    """the variant `planned.of`"""
    assets: Path
    """folder of the artefact's small files: preprocess.json, generation.json, tokenizer.json"""
    folder: Path
    """empty; all that the variant needs is written here"""
    tell: Callable[[str], None]
    """takes what is being done, a few words"""


class Exporter(Protocol):
    """Makes variants of one kind."""

    dtypes: Mapping[str, str]
    """what `--dtype` may say -> a few words about it"""
    default: Sequence[str]
    """what is made without `--dtype`"""

    def plan(self, request: Request) -> list[Planned]:
        """One or more variants for the request; must be quick. Raises UsageError for what cannot
        be made."""
        ...

    def build(self, job: Job) -> VariantEntry:
        """Write the variant; graphs' files in the answer are relative to `job.folder`.

        Its `kv`, `parity` and, unless it is `pending`, its `state` are filled in by the caller.
        """
        ...

    def sources(self) -> Sequence[str]:
        """Names of the packages and modules that decide what `build` writes: where their code or
        version changes, variants are made anew."""
        ...


@runtime_checkable
class Prover(Protocol):
    """An exporter whose variants another program runs: it compares them with the eager model
    itself, in the place of `parity.check`."""

    def prove(self, folder: Path, variant: str, entry: VariantEntry, *, golden: Golden) -> Report:
        """The report of one variant in the artefact `folder`; a level that could not run says why,
        and the variant then stays `built`."""
        ...


def open_exporter(
    name: str, *, plugins: Plugins, options: Mapping[str, str] | None = None
) -> Exporter:
    """By its flag; of the options it is given those that it has declared.

    Raises PluginError for an unknown one, MissingExtra if a library is absent, UsageError for an
    option's value that makes no sense.
    """
    spec = plugins.get("exporter", name).spec
    assert isinstance(spec, ExporterSpec)
    require(spec, f"exporter {name!r}")
    own = {each.name for each in spec.options}
    given = {key: value for key, value in (options or {}).items() if key in own}
    exporter: Exporter = resolve(spec.run)(given) if spec.options else resolve(spec.run)()
    return exporter


def open_exporters(
    names: Sequence[str], *, plugins: Plugins, options: Mapping[str, str]
) -> dict[str, Exporter]:
    """Several, by their flags. Raises UsageError for an option that none of them takes."""
    takers = {
        option: [item.spec.name for item in plugins.all("exporter") if _takes(item.spec, option)]
        for option in options
    }
    for option, known in takers.items():
        if not set(known) & set(names):
            raise UsageError(
                f"--{option} says nothing to {' and '.join(f'--{name}' for name in names)}",
                hint=f"it goes with {' or '.join(f'--{name}' for name in known)}",
            )
    return {name: open_exporter(name, plugins=plugins, options=options) for name in names}


def _takes(spec: Any, option: str) -> bool:
    return any(each.name == option for each in spec.options)


def choose_dtypes(
    exporters: Mapping[str, Exporter], wanted: Sequence[str]
) -> dict[str, Sequence[str]]:
    """exporter -> those of the wanted dtypes that it knows; its default if none are wanted.

    Raises UsageError for a dtype that no exporter knows, and for an exporter left without one.
    """
    known = {dtype: None for exporter in exporters.values() for dtype in exporter.dtypes}
    for dtype in wanted:
        if dtype not in known:
            raise UsageError(
                f"no dtype {dtype!r}{nearest(dtype, known)}; "
                + "; ".join(f"--{name} has {', '.join(e.dtypes)}" for name, e in exporters.items())
            )
    chosen: dict[str, Sequence[str]] = {}
    for name, exporter in exporters.items():
        own = [dtype for dtype in dict.fromkeys(wanted) if dtype in exporter.dtypes]
        if wanted and not own:
            raise UsageError(
                f"--{name} has none of {', '.join(wanted)}; it has {', '.join(exporter.dtypes)}"
            )
        chosen[name] = own or list(exporter.default)
    return chosen
