"""`vlv plugins`: everything that was found, and everything that is wrong. Never fails over it."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from vlv_core.console import Session
from vlv_core.registry import Plugins, Registered, available, ways_out

EXAMPLES = """\
\b
Examples:
  vlv plugins
  vlv plugins --json | jq -r '.plugins[] | select(.role == "encoder") | .name'
  vlv plugins --plugin ./my_encoder.py
  VLV_PLUGINS= vlv plugins          (without third-party plugins)
"""


@click.command(name="plugins", epilog=EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.pass_obj
def command(session: Session, *, as_json: bool) -> None:
    """List every component, dataset and model found.

    Each with its role, its owner, and whether its libraries are installed. Broken plugins and
    names that two plugins offer are listed with their reasons; neither makes this command fail.
    """
    plugins = session.find_plugins()
    if as_json:
        click.echo(json.dumps(listing(plugins), indent=2, ensure_ascii=False))
    else:
        _print_tables(listing(plugins))


def listing(plugins: Plugins) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "plugins": [_row(item, plugins.all(item.role)) for item in plugins.all()],
        "broken": [
            {
                "owner": record.owner.distribution,
                "version": record.owner.version,
                "plugin": record.owner.plugin,
                "reason": record.reason,
            }
            for record in plugins.broken
        ],
        "left_out": [str(owner) for owner in plugins.left_out],
    }


def _row(item: Registered, peers: Sequence[Registered]) -> dict[str, Any]:
    rivals = [peer.owner for peer in peers if peer.spec.name == item.spec.name]
    missing = available(item.spec)
    return {
        "name": item.spec.name,
        "role": item.role,
        "owner": item.owner.distribution,
        "version": item.owner.version,
        "plugin": item.owner.plugin,
        "summary": item.spec.summary,
        "available": missing is None,
        "reason": missing,
        "ambiguous": ways_out(rivals) if len(rivals) > 1 else [],
    }


def _print_tables(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # a pipe has no width: leave lines whole there, so that grep finds what it looks for
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)

    def table(title: str, *columns: str) -> Table:
        made = Table(title=title, title_justify="left", box=None, header_style="bold")
        for column in columns:
            made.add_column(column, overflow="fold")
        return made

    offers = table("", "ROLE", "NAME", "OWNER", "SUMMARY", "USABLE")
    for row in found["plugins"]:
        owner = f"{row['owner']} {row['version']}".strip()
        columns = (row["role"], row["name"], owner, row["summary"], _usable(row))
        offers.add_row(*map(Text, columns))
    console.print(offers)
    if found["broken"]:
        broken = table("\nBroken:", "OWNER", "PLUGIN", "REASON")
        for row in found["broken"]:
            owner = f"{row['owner']} {row['version']}".strip()
            broken.add_row(*map(Text, (owner, row["plugin"], row["reason"])))
        console.print(broken)
    for owner in found["left_out"]:
        console.print(Text(f"left out: {owner}"))


def _usable(row: dict[str, Any]) -> str:
    if row["ambiguous"]:
        return f"ambiguous: {' or '.join(row['ambiguous'])}"
    return row["reason"] or "yes"
