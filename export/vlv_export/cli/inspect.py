"""`vlv-export inspect OUT`: what an artefact holds, as its manifest says."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

EXAMPLES = """\
\b
Examples:
  vlv-export inspect OUT
  vlv-export inspect OUT --json
"""


@click.command(name="inspect", epilog=EXAMPLES)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def command(*, out: Path, as_json: bool) -> None:
    """Show what the artefact OUT holds. Needs nothing but vlv itself; opens no graph."""
    from vlv_export.manifest import read_manifest

    manifest = read_manifest(out)
    if as_json:
        click.echo(json.dumps(asdict(manifest), indent=2, ensure_ascii=False))
        return
    from vlv_export.card import parity_cells
    from vlv_export.cli._tables import show_engines, show_variants
    from vlv_export.workspace import gigabytes

    model, size = manifest.model, sum(entry.bytes for entry in manifest.files.values())
    click.echo(f"{out}: {model['name']}, {gigabytes(size)} in {len(manifest.files)} files")
    click.echo(f"made: {manifest.created} by {' '.join(manifest.tool.values())}")
    click.echo(f"domain: {model.get('domain') or 'not stated'}")
    click.echo(f"licence: {model.get('licence') or 'not stated'}\n")
    show_variants(manifest)
    show_engines(manifest)
    if manifest.default is None:
        click.echo("default: none, for vlv runs none of these itself; each variant's folder says "
                   "what does\n")  # fmt: skip
    for name, entry in manifest.variants.items():
        click.echo(f"{name}: {parity_cells(entry) or 'not proved yet'}")
