"""`vlv-bench report OUT`: write the report of a run again."""

from dataclasses import replace
from pathlib import Path

import click

EXAMPLES = """\
\b
Examples:
  vlv-bench report OUT
  vlv-bench report OUT --price-per-hour 0.19        (and what a million captions cost)
"""


@click.command(name="report", epilog=EXAMPLES)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--price-per-hour", type=click.FloatRange(min=0, min_open=True), metavar="USD",
              help="Of the machine; kept in bench.json.")  # fmt: skip
def command(*, out: Path, price_per_hour: float | None) -> None:
    """Write OUT/REPORT.md and OUT/report.html from OUT/bench.json and its raw samples."""
    from vlv_benchmarks.folder import read_record, write_record
    from vlv_benchmarks.report import write_report

    if price_per_hour is not None:
        record = read_record(out)
        priced = replace(record.run, price_per_hour_usd=price_per_hour)
        write_record(out, replace(record, run=priced))
    for path in write_report(out):
        click.echo(path)
