"""Who proves a variant: our own runtime those that it runs, engines by what is known of them, else
the exporter that made it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from vlv_core.registry import Plugins
from vlv_export.exporters import Prover, open_exporter
from vlv_export.golden import GOLDEN, read_golden
from vlv_export.manifest import ENGINES, RUN_HERE, read_manifest
from vlv_export.parity import check
from vlv_export.parity.report import Level, Report
from vlv_export.tensorrt.proof import prove_engine


def prove(
    folder: Path,
    variant: str,
    levels: Sequence[str],
    *,
    plugins: Plugins,
    threads: int | None = None,
    tell: Callable[[str], None] | None = None,
) -> Report:
    """The variant's parity. Needs torch only if its exporter does.

    Raises ModelError for what is no artefact, PluginError if the exporter is not installed.
    """
    manifest = read_manifest(folder)
    entry = manifest.variant(variant)
    if entry.exporter in ENGINES:
        return prove_engine(folder, variant, levels, plugins=plugins, threads=threads, tell=tell)
    if entry.exporter in RUN_HERE:
        return check(folder, variant, levels, plugins=plugins, threads=threads, progress=tell)
    exporter = open_exporter(entry.exporter, plugins=plugins)
    if isinstance(exporter, Prover):
        return exporter.prove(folder, variant, entry, golden=read_golden(folder / GOLDEN))
    reason = f"the exporter {entry.exporter!r} proves nothing, and no runtime here runs its graphs"
    return Report(
        model=str(manifest.model.get("name", "")),
        variant=variant,
        dtype=entry.dtype,
        levels=tuple(Level(level=each, state="not run", reason=reason) for each in levels),
    )
