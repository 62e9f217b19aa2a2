"""`vlv-export build OUT`: the variants that waited for this machine."""

from __future__ import annotations

from pathlib import Path

import click

from vlv_core.errors import UsageError

EXAMPLES = """\
\b
Examples:
  vlv-export build OUT
"""


@click.command(name="build", epilog=EXAMPLES)
@click.argument("out", type=click.Path(path_type=Path))
def command(*, out: Path) -> None:
    """Make the variants of the artefact OUT that could not be made where it was exported."""
    from vlv_export.manifest import read_manifest

    manifest = read_manifest(out)
    waiting = [name for name, entry in manifest.variants.items() if entry.state == "pending"]
    if not waiting:
        are = "is" if len(manifest.variants) == 1 else "are"
        click.echo(f"nothing waits: {', '.join(manifest.variants)} of {out} {are} built")
        return
    raise UsageError(
        f"{', '.join(waiting)}: this version of vlv has no exporter that builds from an artefact",
        hint="export the model again on the machine that the variants are for",
    )
