"""Running levels over one variant of an artefact's folder."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from vlv_core.errors import UsageError, VlvError, nearest
from vlv_core.registry import Plugins
from vlv_export.golden import GOLDEN, Golden, read_golden
from vlv_export.manifest import ENGINES, VariantEntry, read_manifest
from vlv_export.parity.captions import check_captions
from vlv_export.parity.engine import check_engine
from vlv_export.parity.files import check_files
from vlv_export.parity.fresh import check_fresh
from vlv_export.parity.parts import check_parts
from vlv_export.parity.report import LEVELS, Level, Report, broken
from vlv_export.parity.scores import check_scores
from vlv_export.parity.simulated import SIMULATED, simulates
from vlv_export.parity.target import Target
from vlv_export.parity.teacher import check_teacher

EXPORT_LEVELS = tuple(LEVELS)
"""what an export itself runs"""
NO_KERNELS = {"bf16": "no CPU kernels"}
"""dtypes that onnxruntime cannot run: their graphs and precision are checked, no numbers, unless
they can be simulated"""


def check(
    folder: Path,
    variant: str | None = None,
    levels: Sequence[str] = EXPORT_LEVELS,
    golden: Golden | None = None,
    *,
    plugins: Plugins | None = None,
    threads: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Check a variant (None: the default) of the artefact in `folder`, and say what came out.

    `golden` None reads the folder's own. `plugins` are asked for the evaluator of L4; None loads
    those that are installed. A level that fails, or an artefact that cannot be opened, is in the
    report; errors are raised for what is no artefact (ModelError), for an unknown level and for an
    unknown dtype (UsageError).
    """
    _check_names(levels)
    manifest = read_manifest(folder)
    name = manifest.named(variant)
    entry = manifest.variant(name)
    target = Target(folder, manifest, name, golden or read_golden(folder / GOLDEN), threads)
    limits = target.limits
    del limits
    runs = _levels(plugins)
    found: list[Level] = []
    for level in (each for each in LEVELS if each in levels):
        reason = "" if level == "L0" else _reason(entry, found)
        if reason:
            found.append(Level(level=level, state="not run", reason=reason))
            continue
        if progress is not None:
            progress(f"{name}: {level} {LEVELS[level]}")
        outcome = _run(level, runs[level], target)
        if simulates(entry) and level != "L0":
            outcome = replace(outcome, notes=(*outcome.notes, SIMULATED))
        found.append(outcome)
    return Report(
        model=target.golden.facts.model, variant=name, dtype=entry.dtype, levels=tuple(found)
    )


def _levels(plugins: Plugins | None) -> Mapping[str, Callable[[Target], Level]]:
    return {
        "L0": check_files,
        "L1": check_parts,
        "L2": check_teacher,
        "L3": check_captions,
        "L4": lambda target: check_scores(target, plugins=plugins),
        "L5": check_engine,
        "L6": check_fresh,
    }


def _run(level: str, run: Callable[[Target], Level], target: Target) -> Level:
    """A level's outcome; one that cannot go on has failed, and says why."""
    started = time.perf_counter()
    try:
        outcome = run(target)
    except (VlvError, MemoryError) as error:
        outcome = broken(level, " ".join(str(error).split()))
    return replace(outcome, seconds=round(time.perf_counter() - started, 2))


def _reason(entry: VariantEntry, before: Sequence[Level]) -> str:
    """Why no graph is to be run."""
    if entry.dtype in NO_KERNELS and entry.exporter not in ENGINES:
        if not simulates(entry):
            return NO_KERNELS[entry.dtype]
        if find_spec("onnx_ir") is None:
            return f"{NO_KERNELS[entry.dtype]}; to simulate them: pip install 'vlv[onnx]'"
    if any(level.level == "L0" and level.state == "failed" and level.reason for level in before):
        return "the artefact cannot be opened"
    return ""


def _check_names(levels: Sequence[str]) -> None:
    for level in levels:
        if level not in LEVELS:
            raise UsageError(
                f"no level {level!r}{nearest(level, LEVELS)}; levels: {', '.join(LEVELS)}"
            )
