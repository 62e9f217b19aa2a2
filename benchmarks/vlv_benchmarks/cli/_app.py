"""`vlv-bench` and its table of subcommands. Each module below holds one, as `command`."""

import sys

import click

from vlv_core.console import Lazy, LazyGroup, run

TABLE = {
    "run": Lazy("vlv_benchmarks.cli.run", "Measure, and write a report."),
    "peers": Lazy("vlv_benchmarks.cli.peers", "List other programs, or set one up."),
    "report": Lazy("vlv_benchmarks.cli.report", "Write the report of a run again."),
    "compare": Lazy("vlv_benchmarks.cli.compare", "Say what became faster or slower."),
    "gate": Lazy("vlv_benchmarks.cli.gate", "Hold a run to what may not vary."),
    "verify": Lazy("vlv_benchmarks.cli.verify", "Compute every figure again from raw samples."),
}

HELP = """\
Measure what vlv exports against what you would use instead, and say what bounds it.

Exit codes: 0 done; 1 a failure of vlv; 2 wrong usage or input; 3 inconclusive; 5 measured, but not
proved: a figure does not follow from the samples, a row became slower, or a count changed.
"""

EXAMPLES = """\
\b
Examples:
  vlv-bench run --quick -o OUT
  vlv-bench report OUT
  vlv-bench compare BEFORE AFTER
  vlv-bench verify OUT
  vlv-bench gate OUT EXPECTED
"""

app: click.Group = click.version_option(package_name="vlv", message="%(prog)s %(version)s")(
    LazyGroup(name="vlv-bench", help=HELP, epilog=EXAMPLES, table=TABLE)
)


def main() -> None:
    """Entry point of the command `vlv-bench`."""
    sys.exit(run(app, name="vlv-bench"))
