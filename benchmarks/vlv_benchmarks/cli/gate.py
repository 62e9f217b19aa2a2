"""`vlv-bench gate OUT EXPECTED`: hold a run to what may not vary."""

from pathlib import Path

import click

from vlv_core.errors import NotProved

EXAMPLES = """\
\b
Examples:
  vlv-bench run --quick --artefact mini-onnx --threads 1 -o OUT
  vlv-bench gate OUT benchmarks/expected/quick.json
  vlv-bench gate OUT benchmarks/expected/quick.json --write     (make it of this run)
"""


@click.command(name="gate", epilog=EXAMPLES)
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("expected", type=click.Path(path_type=Path))
@click.option("--write", is_flag=True, help="Make EXPECTED of this run, in the place of comparing.")
def command(*, out: Path, expected: Path, write: bool) -> None:
    """Hold the run OUT to the file EXPECTED: counts, bytes, graph nodes, allocations of a step and
    hashes of outputs exactly, the artefact's size within 2 %, and ratios of speed to a third of
    what is due. Times are not judged.

    Exit code 5 if anything differs. Outputs are compared on the libraries and the kind of processor
    that made EXPECTED alone.
    """
    from vlv_benchmarks.folder import read_record
    from vlv_benchmarks.gate import expected_of, gate, read_expected, write_expected

    record = read_record(out)
    if write:
        due = expected_of(record)
        write_expected(expected, due)
        click.echo(f"{expected}: what is due of {len(due.rows)} rows")
        return
    found = gate(record, read_expected(expected))
    for each in found.untold:
        click.echo(each)
    for each in found.wrong:
        click.echo(f"differs: {each}")
    if found.wrong:
        raise NotProved(
            f"{len(found.wrong)} counts of {out} are not what {expected} says",
            hint="if all of them are meant, --write makes the file anew",
        )
    click.echo(f"{found.rows} rows are what {expected} says")
