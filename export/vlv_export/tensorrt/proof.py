"""The proof of an engine: its files, precision and in-place cache anywhere, by what the compiler
told of it; its numbers on a GPU that it was built for, by the levels that prove every variant.

That the graph itself is right (all levels, the poisoned suffix among them) is proved of the
variant that the engine was compiled from.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import cast

from vlv_core.errors import NotProved, VlvError
from vlv_core.files import contained
from vlv_core.parts import CAPTION_PARTS
from vlv_core.registry import Plugins
from vlv_export.golden import GOLDEN, read_golden
from vlv_export.manifest import Manifest, VariantEntry, read_manifest
from vlv_export.parity import check
from vlv_export.parity.parts import counted
from vlv_export.parity.report import LEVELS, Check, Level, Report, broken, judged
from vlv_export.preflight import check_file
from vlv_export.tensorrt.gpus import gpus
from vlv_export.tensorrt.job import LAYERS, Dtype
from vlv_export.tensorrt.layers import Layer, read_layers_file
from vlv_export.tensorrt.precision import prove_precision

AMPERE = 80
NO_GPU = "no GPU here"


def prove_engine(
    folder: Path,
    variant: str,
    levels: Sequence[str],
    *,
    plugins: Plugins,
    threads: int | None = None,
    tell: Callable[[str], None] | None = None,
) -> Report:
    """The report of an engine variant of the artefact `folder`.

    Levels that run it are `not run` without a GPU that it was built for. Raises ModelError for
    what is no artefact.
    """
    manifest = read_manifest(folder)
    entry = manifest.variant(variant)
    found = [_files(folder, manifest, entry)] if "L0" in levels else []
    rest = [level for level in LEVELS if level in levels and level != "L0"]
    reason = not_run_here(entry)
    if any(level.state == "failed" for level in found):
        distrust = "the engine is not to be trusted"
        found += [Level(level=level, state="not run", reason=distrust) for level in rest]
    elif reason:
        found += [_without_running(level, entry, reason) for level in rest]
    elif rest:
        golden = read_golden(folder / GOLDEN)
        report = check(folder, variant, rest, golden, plugins=plugins, threads=threads,
                       progress=tell)  # fmt: skip
        found += [_with_aliases(level, entry) for level in report.levels]
    name = str(manifest.model.get("name", ""))
    return Report(model=name, variant=variant, dtype=entry.dtype, levels=tuple(found))


def not_run_here(entry: VariantEntry) -> str:
    """Why this machine cannot run an engine, in a few words; empty if it can."""
    here = [gpu.sm for gpu in gpus()]
    if not here:
        return NO_GPU
    everywhere = entry.compat.get("hardware") == "ampere+" and max(here) >= AMPERE
    if everywhere or set(here) & set(entry.sm):
        return ""
    built = "+".join(f"sm{each}" for each in entry.sm) or "no GPU that is known"
    return f"built for {built}, and here is sm{here[0]}"


def _files(folder: Path, manifest: Manifest, entry: VariantEntry) -> Level:
    """L0: every byte as it was built, and layers of the element type that the variant claims."""
    started = time.perf_counter()
    names = [graph.file for graph in entry.graphs.values()]
    try:
        for part in CAPTION_PARTS:
            entry.graph(part)
        layers = str(PurePosixPath(names[0]).with_name(LAYERS))
        for name in (*names, layers):
            check_file(folder, name, manifest.file(name), hashed=True)
        known = read_layers_file(contained(folder, layers))
        checks = [
            each
            for part in entry.graphs
            for each in _precision(part, known.get(part, []), entry.dtype)
        ]
    except VlvError as error:
        return broken("L0", " ".join(str(error).split()))
    return replace(judged("L0", checks), seconds=round(time.perf_counter() - started, 2))


def _precision(part: str, layers: Sequence[Layer], dtype: str) -> Iterator[Check]:
    """What the layers multiply, and of which types the weights are. Raises NotProved for an engine
    that is of another type than its variant says."""
    if not layers:
        raise NotProved(f"{LAYERS} tells nothing of part {part!r}")
    kinds = prove_precision(layers, cast(Dtype, dtype), part=part)
    yield counted(part, "layers", f"products of another type than {dtype}", [])
    yield from (
        Check(part=part, output="layers", figure=f"share of weights in {kind}", value=share)
        for kind, share in kinds.items()
    )


def _without_running(level: str, entry: VariantEntry, reason: str) -> Level:
    if level != "L5":
        return Level(level=level, state="not run", reason=reason)
    aliases = _in_place(entry)
    return judged("L5", aliases, notes=(f"poisoned suffix, memory: not run, {reason}",))


def _with_aliases(level: Level, entry: VariantEntry) -> Level:
    if level.level != "L5" or level.state != "passed":
        return level
    both = judged("L5", [*_in_place(entry), *level.checks], notes=level.notes)
    return replace(both, seconds=level.seconds)


def _in_place(entry: VariantEntry) -> list[Check]:
    """Every cache input of an engine must be the same buffer as its output."""
    checks = []
    for part, graph in entry.graphs.items():
        past = [each.name for each in graph.inputs if re.match(r"past\.", each.name)]
        if past:
            apart = [name for name in past if name not in graph.aliases]
            checks.append(counted(part, "cache", "caches that are not updated in place", apart))
    return checks
