"""Engines as variants of an artefact: compiled from those graphs of it that are made for engines.

Needs neither torch nor onnx, so that the machine where engines run can build them.
"""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from vlv_core.errors import UsageError
from vlv_export.manifest import GraphEntry, TensorEntry, VariantEntry
from vlv_export.tensorrt.gpus import gpus
from vlv_export.tensorrt.job import (
    BuildJob,
    BuildResult,
    Dtype,
    Engine,
    Hardware,
    LibraryName,
    Profile,
)
from vlv_export.tensorrt.libraries import (
    BF16_FROM,
    RTX_TARGETS,
    check_targets,
    default_targets,
    library,
)
from vlv_export.tensorrt.process import build
from vlv_export.tensorrt.settings import named

NUMPY_NAMES = {"Half": "float16", "BFloat16": "bfloat16", "Float": "float32"}
"""element types as compilers name them -> as manifests do"""
CODE_BYTES = 5_500_000
"""of an engine without its weights, for all of its GPUs, on disk"""

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What engines of a variant are for."""

    library: LibraryName
    dtype: Dtype
    sm: tuple[int, ...] = ()
    """compute capabilities; empty: that of a GPU which is not known yet"""
    hardware: Hardware = "same"
    version_compatible: bool = False

    def waits(self) -> str:
        """Why this machine cannot build for it, in a sentence; empty if it can."""
        if self.library == "rtx":
            return ""
        found = [gpu.sm for gpu in gpus()]
        here = []
        if library("trt").version is None:
            here.append("no package tensorrt")
        if not found:
            here.append("no GPU, and tensorrt builds for the one that it finds")
        elif self.sm and self.sm[0] not in found:
            here.append(f"an sm{found[0]} GPU, and it is for sm{self.sm[0]}")
        name = named(self.library, self.dtype, self.sm)
        return f"{name} waits for its machine: here is {' and '.join(here)}" if here else ""


def target_of(
    name: LibraryName,
    dtype: str,
    *,
    sm: Sequence[int] = (),
    hardware: Hardware = "same",
    version_compatible: bool = False,
) -> Target:
    """The target that options mean on this machine: those without `sm` take the library's own.

    Raises UsageError for GPUs that library or dtype do not know.
    """
    known = cast(Dtype, dtype)
    wanted = tuple(sm)
    if not wanted:
        wanted = default_targets(known) if name == "rtx" else tuple(gpu.sm for gpu in gpus()[:1])
    check_targets(name, wanted, known)
    return Target(
        library=name,
        dtype=known,
        sm=wanted,
        hardware=hardware,
        version_compatible=version_compatible,
    )


def compile_engines(
    graphs: Mapping[str, Path],
    of: VariantEntry,
    *,
    source: str,
    target: Target,
    profiles: Mapping[str, tuple[Profile, ...]],
    folder: Path,
    tell: Tell,
) -> VariantEntry:
    """Build an engine of each graph into `folder`; or, where this machine cannot, check the graphs
    with what is here, and answer a `pending` variant.

    graphs: part -> file; of: the variant that they are of, called `source`
    Raises NotProved if an engine is not of its target's precision, and what `process.build` does.
    """
    waits = target.waits()
    if waits:
        entry = _entry(target, source, of, profiles)
        checked = _check(graphs, of, target=target, profiles=profiles, tell=tell)
        return replace(
            entry, state="pending", waits=waits, compat={**entry.compat, "checked": checked}
        )
    result = build(_job(graphs, of, target, profiles, folder), tell=tell)
    return _built(result, target, source, of, profiles)


def _job(
    graphs: Mapping[str, Path],
    of: VariantEntry,
    target: Target,
    profiles: Mapping[str, tuple[Profile, ...]],
    folder: Path,
) -> BuildJob:
    return BuildJob(
        library=target.library,
        graphs=graphs,
        out=folder,
        dtype=target.dtype,
        profiles=profiles,
        aliases={part: graph.aliases for part, graph in of.graphs.items()},
        sm=target.sm,
        hardware=target.hardware,
        version_compatible=target.version_compatible,
    )


def _check(
    graphs: Mapping[str, Path],
    of: VariantEntry,
    *,
    target: Target,
    profiles: Mapping[str, tuple[Profile, ...]],
    tell: Tell,
) -> str:
    """Build the graphs by tensorrt-rtx, whose parser and layers are TensorRT's, and throw the
    engines away; what was done, in words."""
    if library("rtx").version is None:
        return ""
    nearest = min(RTX_TARGETS, key=lambda sm: (abs(sm - _sm(target)), sm))
    stand_in = replace(target, library="rtx", sm=(nearest,), hardware="same",
                       version_compatible=False)  # fmt: skip
    with TemporaryDirectory() as work:
        result = build(_job(graphs, of, stand_in, profiles, Path(work)), tell=tell)
    return f"{result.package} {result.version} parsed the graphs and built them for sm{nearest}"


def _sm(target: Target) -> int:
    return target.sm[0] if target.sm else BF16_FROM


def _entry(
    target: Target,
    source: str,
    of: VariantEntry,
    profiles: Mapping[str, tuple[Profile, ...]],
) -> VariantEntry:
    """What is known before anything is built."""
    return VariantEntry(
        exporter=target.library,
        dtype=target.dtype,
        state="built",
        graphs={},
        profiles={part: list(each) for part, each in profiles.items()},
        precision={"requested": target.dtype},
        kv=of.kv,
        compat={
            "sm": list(target.sm),
            "os": platform.system(),
            "machine": platform.machine(),
            "runtime": library(target.library).package,
            "graphs": source,
            "hardware": target.hardware,
            "version_compatible": target.version_compatible,
        },
    )


def _built(
    result: BuildResult,
    target: Target,
    source: str,
    of: VariantEntry,
    profiles: Mapping[str, tuple[Profile, ...]],
) -> VariantEntry:
    entry = _entry(target, source, of, profiles)
    engines = result.engines
    if absent := set(of.graphs) - set(engines):
        raise UsageError(f"{result.package} built no engine of {', '.join(sorted(absent))}")
    memory = sum(e.weights_bytes + e.activation_bytes + e.scratch_bytes for e in engines.values())
    return replace(
        entry,
        graphs={part: _graph(engine, of.graphs[part]) for part, engine in engines.items()},
        profiles={part: list(engine.profiles) for part, engine in engines.items()},
        precision={**entry.precision, "proved": shares(engines)},
        compat={
            **entry.compat,
            "sm": list(result.sm),
            "version": result.version,
            "device_bytes": memory,
        },
    )


def _graph(engine: Engine, graph: GraphEntry) -> GraphEntry:
    return GraphEntry(
        file=engine.file,
        inputs=engine.inputs,
        outputs=_with_axes(engine.outputs, graph),
        aliases=engine.aliases,
        shared_cache=bool(engine.aliases),
        joined=graph.joined,
    )


def _with_axes(outputs: Sequence[TensorEntry], graph: GraphEntry) -> tuple[TensorEntry, ...]:
    """Outputs with the names of their axes, by which the runtime sizes them: compilers keep those
    of inputs alone. Raises UsageError for outputs that are not the graph's."""
    known = {each.name: each.shape for each in graph.outputs}
    for each in outputs:
        named = known.get(each.name, ())
        if len(named) != len(each.shape) or any(
            isinstance(size, int) and isinstance(axis, int) and size != axis
            for size, axis in zip(each.shape, named, strict=True)
        ):
            raise UsageError(
                f"the engine's output {each.name!r} has the shape {each.shape}, and {graph.file} "
                f"says {named or 'nothing of it'}",
                hint="the graph was changed since it was described: export it again",
            )
    return tuple(replace(each, shape=known[each.name]) for each in outputs)


def shares(engines: Mapping[str, Engine]) -> dict[str, float]:
    """Element type -> share of the weights' bytes of all engines together."""
    totals: dict[str, float] = {}
    for engine in engines.values():
        for kind, share in engine.precision.items():
            name = NUMPY_NAMES.get(kind, kind.lower())
            totals[name] = totals.get(name, 0.0) + share * engine.weights_bytes
    whole = sum(totals.values())
    ordered = sorted(totals.items(), key=lambda item: -item[1])
    return {name: total / whole for name, total in ordered} if whole else {}


def profiles_of(entry: VariantEntry) -> dict[str, tuple[Profile, ...]]:
    """Those that a variant's engines have, or are to have."""
    return {part: tuple(each) for part, each in entry.profiles.items()}


def target_like(entry: VariantEntry, *, sm: Sequence[int] = ()) -> Target:
    """The target of a variant, for GPUs `sm`; without them for the GPU of this machine if the
    variant's are others, or for the variant's."""
    wanted = tuple(sm) or entry.sm
    here = [gpu.sm for gpu in gpus()]
    if not sm and here and not set(here) & set(wanted):
        wanted = (here[0],)
    facts: Mapping[str, Any] = entry.compat
    return target_of(
        cast(LibraryName, entry.exporter),
        entry.dtype,
        sm=wanted,
        hardware=facts.get("hardware", "same"),
        version_compatible=bool(facts.get("version_compatible", False)),
    )
