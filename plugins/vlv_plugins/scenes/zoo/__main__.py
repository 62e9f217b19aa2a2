"""`python -m vlv_plugins.scenes.zoo OUT`."""

from collections import Counter
from pathlib import Path

import click

from vlv_core.errors import UsageError
from vlv_plugins.scenes.zoo.collection import LISTING, write_zoo


@click.command(help="Write the zoo of awkward inputs, and the outcome of each, to the folder OUT.")
@click.argument("out", type=click.Path(path_type=Path))
def main(*, out: Path) -> None:
    """Command line of `write_zoo`."""
    try:
        entries = write_zoo(out)
    except UsageError as error:
        raise click.UsageError(error.message) from error
    counts = Counter(entry.outcome for entry in entries)
    listed = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
    click.echo(f"{out / LISTING}: {listed}")
    for entry in entries:
        if entry.note:
            click.echo(f"note: {entry.path}: {entry.note}")


if __name__ == "__main__":
    main()
