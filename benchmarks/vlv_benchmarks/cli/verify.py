"""`vlv-bench verify OUT`: compute every figure again."""

from pathlib import Path

import click

from vlv_core.errors import NotProved

EXAMPLES = """\
\b
Examples:
  vlv-bench verify OUT
"""
SHOWN = 20


@click.command(name="verify", epilog=EXAMPLES)
@click.argument("out", type=click.Path(path_type=Path))
def command(*, out: Path) -> None:
    """Compute every figure of OUT/bench.json and its report again from the raw samples.

    Exit code 5 if one differs.
    """
    from vlv_benchmarks.folder import read_record
    from vlv_benchmarks.verify import mismatches

    found = mismatches(out)
    for each in found[:SHOWN]:
        click.echo(each)
    if found:
        more = f", {len(found) - SHOWN} of them not shown" if len(found) > SHOWN else ""
        raise NotProved(
            f"{len(found)} figures of {out} do not follow from its samples{more}",
            hint="measure again, or 'vlv-bench report OUT' if only the report is old",
        )
    record = read_record(out)
    turns, rows = record.samples.turns, len(record.result)
    click.echo(f"all figures of {rows} rows follow from the samples of {turns} turns")
