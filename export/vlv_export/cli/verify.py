"""`vlv-export verify OUT`: parity again, from the golden values, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlv_core.console import Session
from vlv_core.errors import NotProved, UsageError, nearest

if TYPE_CHECKING:
    from vlv_export.manifest import Manifest

EXAMPLES = """\
\b
Examples:
  vlv-export verify OUT
  vlv-export verify OUT --level L1 --variant onnx-int8
  vlv-export verify OUT --full                  (hash every file, and check every level)
"""


@click.command(name="verify", epilog=EXAMPLES)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--level", "levels", multiple=True, metavar="LEVEL",
              help="L0 to L6; what an export runs if left out; may be repeated.")  # fmt: skip
@click.option("--variant", "variants", multiple=True, metavar="NAME",
              help="All that are built if left out; may be repeated.")  # fmt: skip
@click.option("--full", is_flag=True, help="Hash every file first, and run every level.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.")
@click.pass_obj
def command(
    session: Session,
    *,
    out: Path,
    levels: tuple[str, ...],
    variants: tuple[str, ...],
    full: bool,
    threads: int | None,
) -> None:
    """Compare the artefact OUT with what the trained model said when it was exported.

    Exit code 5 if it differs.
    """
    from vlv_export.cli._tables import show_parity
    from vlv_export.manifest import ENGINES, read_manifest
    from vlv_export.parity import EXPORT_LEVELS
    from vlv_export.parity.report import LEVELS
    from vlv_export.preflight import check_artefact
    from vlv_export.proving import prove

    manifest = read_manifest(out)
    names, plugins = _variants(manifest, variants), session.plugins()
    wanted = [_level(each, LEVELS) for each in levels] or list(LEVELS if full else EXPORT_LEVELS)
    reports = {}
    for name in names:
        # An engine's own L0 hashes it, on machines too that cannot run it.
        if full and manifest.variant(name).exporter not in ENGINES:
            check_artefact(out, variant=name, check="full")
        click.echo(f"checking {name}: {', '.join(wanted)}", err=True)
        reports[name] = prove(out, name, wanted, plugins=plugins, threads=threads)
    show_parity(reports)
    failures = [failure for report in reports.values() for failure in report.failures()]
    if failures:
        raise NotProved(failures[0], hint="copy the artefact again, or export the model again")


def _variants(manifest: Manifest, wanted: tuple[str, ...]) -> list[str]:
    """Those wanted, or all that are built. Raises ModelError for an unknown one."""
    for name in wanted:
        manifest.variant(name)
    return list(wanted) or [
        name for name, entry in manifest.variants.items() if entry.state != "pending"
    ]


def _level(wanted: str, known: dict[str, str]) -> str:
    name = wanted.upper() if wanted[:1] in "lL" else f"L{wanted}"
    if name not in known:
        raise UsageError(f"no level {wanted!r}{nearest(name, known)}; levels: {', '.join(known)}")
    return name
