"""`vlv-export doctor`: what this machine can export to, and run."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

EXAMPLES = """\
\b
Examples:
  vlv-export doctor
  vlv-export doctor --json
"""


@click.command(name="doctor", epilog=EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(*, as_json: bool) -> None:
    """Say which backends and devices this machine has, their versions, and what to install."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from vlv_export.doctor import backends, machine

    found = backends()
    if as_json:
        data = {"machine": machine(), "backends": [asdict(each) for each in found]}
        click.echo(json.dumps(data, indent=2))
        return
    for name, value in machine().items():
        click.echo(f"{name}: {value}")
    click.echo()
    table = Table("backend", "version", "for", "runs on", "to install", box=None)
    for each in found:
        cells = each.name, each.version or "-", each.purpose, ", ".join(each.devices), each.install
        table.add_row(*map(Text, cells))
    Console(highlight=False).print(table)
