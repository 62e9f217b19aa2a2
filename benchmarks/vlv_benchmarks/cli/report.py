"""`vlv-bench report OUT`: write the report of a run again."""

from pathlib import Path

import click

EXAMPLES = """\
\b
Examples:
  vlv-bench report OUT
"""


@click.command(name="report", epilog=EXAMPLES)
@click.argument("out", type=click.Path(path_type=Path))
def command(*, out: Path) -> None:
    """Write OUT/REPORT.md and OUT/report.html from OUT/bench.json and its raw samples."""
    from vlv_benchmarks.report import write_report

    for path in write_report(out):
        click.echo(path)
