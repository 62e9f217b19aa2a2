"""`vlv-bench compare OLD NEW`: what became faster, what slower."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlv_core.errors import Inconclusive, NotProved

if TYPE_CHECKING:
    from vlv_benchmarks.compare import Change, Comparison

EXAMPLES = """\
\b
Examples:
  vlv-bench compare BEFORE AFTER
  vlv-bench compare BEFORE AFTER --margin 0.10      (call less than 10 % equal)
"""


@click.command(name="compare", epilog=EXAMPLES)
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--margin", type=click.FloatRange(min=0, min_open=True), default=0.02,
              show_default=True, help="Ratios this near to 1 are equal.")  # fmt: skip
def command(*, old: Path, new: Path, margin: float) -> None:
    """Compare the runs OLD and NEW: same hardware, same work, row by row.

    Exit code 0 if no row became slower, 5 if one did, 3 if that cannot be decided.
    """
    from vlv_benchmarks.compare import compare
    from vlv_benchmarks.folder import read_record, read_turns

    found = compare(
        read_record(old), read_turns(old), read_record(new), read_turns(new), margin=margin
    )
    if found.software:
        click.echo(f"other software: {', '.join(found.software)}")
    for change in found.changes:
        click.echo(_line(change))
    for keys, words in ((found.gone, "only in the first"), (found.new, "only in the second")):
        for key in keys:
            click.echo(f"{key}: {words}")
    click.echo(_summary(found))
    _conclude(found)


def _summary(found: Comparison) -> str:
    """How many came to what, and how many may well be as fast as before."""
    verdicts = [change.verdict for change in found.changes]
    counts = ", ".join(
        f"{verdicts.count(each)} {each}" for each in ("faster", "slower", "equal", "inconclusive")
    )
    ratios = [change.ratio for change in found.changes if change.ratio]
    hold = sum(each.low <= 1 <= each.high for each in ratios)
    return f"{len(verdicts)} rows: {counts}; {hold} of {len(ratios)} intervals hold 1.000x"


def _line(change: Change) -> str:
    said = change.reason
    if change.ratio:
        ratio = change.ratio
        said = f"{ratio.median:.3f}x ({ratio.low:.3f}, {ratio.high:.3f}) by {change.by}"
    facts = "".join(f"; {each}" for each in change.facts)
    return f"{change.key}: {change.verdict}, {said}{facts}"


def _conclude(found: Comparison) -> None:
    """Raises NotProved if a row became slower, else Inconclusive if one could not be decided."""
    verdicts = [change.verdict for change in found.changes]
    slower, unsure = verdicts.count("slower"), verdicts.count("inconclusive")
    if slower:
        raise NotProved(f"{slower} of {len(verdicts)} rows became slower")
    if unsure:
        raise Inconclusive(
            f"{unsure} of {len(verdicts)} rows cannot be decided",
            hint="more turns narrow the intervals; run both on the quiet machine",
        )
