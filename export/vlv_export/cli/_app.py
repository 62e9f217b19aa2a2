"""`vlv-export MODEL ...`, and its subcommands. Each module below holds one, as `command`."""

import sys
from collections.abc import Collection

import click

from vlv_core.console import EXTRAS, Lazy, LazyGroup, run

DEFAULT = "export"
TABLE = {
    DEFAULT: Lazy("vlv_export.cli.export", "Export a model; this word may be left out."),
    "inspect": Lazy("vlv_export.cli.inspect", "Show what an artefact holds."),
    "verify": Lazy("vlv_export.cli.verify", "Prove an artefact again, without torch."),
    "build": Lazy("vlv_export.cli.build", "Build the engines that waited for this machine."),
    "doctor": Lazy("vlv_export.cli.doctor", "Say which backends and devices are here."),
}

HELP = """\
Turn a trained model into a folder that captions without torch, and prove that it says the same.

MODEL is a bundled model's name, a model's folder, or with --random-weights a recipe. A folder that
is called like a subcommand is written ./inspect.

Exit codes: 0 done; 1 a failure of vlv; 2 wrong usage or input; 5 made, but not proved: a proof
failed, and what was made is in OUT.rejected; or an engine of OUT waits for its GPU.
"""

EXAMPLES = """\
\b
Examples:
  vlv-export mini -o OUT --onnx
  vlv-export runs/mine/model -o OUT --onnx --dtype fp32,int8,int4 --reconstruct
  vlv-export mini -o OUT --onnx --dry-run                 (what would be made, and how large)
  vlv-export mini -o OUT --onnx --rtx --sm 86,89,120      (engines, built without a GPU)
  vlv-export recipe.toml --random-weights -o OUT --onnx   (an architecture at its real size)
  vlv-export inspect OUT
  vlv-export verify OUT --level L1 --level L3
"""

OURS = dict.fromkeys(("onnx", "onnx_ir", "onnxscript", "ml_dtypes"), "onnx")
WITH_VALUE, ALONE = ("--plugin", "--block"), ("--verbose",)
"""the session's options, which may stand before MODEL"""


class DefaultGroup(LazyGroup):
    """A group that takes arguments of its default command where a subcommand's name is due."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_default(args, self.table))

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "MODEL -o OUT --onnx [OPTIONS]")
        formatter.write_usage(ctx.command_path, "COMMAND [ARGS]...", prefix="   or: ")

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in self.table if name != DEFAULT]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of the default command, and then the subcommands."""
        command = self.get_command(ctx, DEFAULT)
        assert command is not None
        command.format_options(click.Context(command, parent=ctx, info_name=DEFAULT), formatter)
        rows = [(name, self.table[name].summary) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def with_default(args: list[str], subcommands: Collection[str]) -> list[str]:
    """The arguments with the default command's name put in, unless they name a subcommand, ask for
    help, or are none."""
    first = 0
    while first < len(args) and args[first] in (*WITH_VALUE, *ALONE):
        first += 2 if args[first] in WITH_VALUE else 1
    asked = args[first : first + 1]
    if not asked or asked[0] in (*subcommands, "-h", "--help", "--version"):
        return args
    return [*args[:first], DEFAULT, *args[first:]]


app: click.Group = click.version_option(package_name="vlv", message="%(prog)s %(version)s")(
    DefaultGroup(name="vlv-export", help=HELP, epilog=EXAMPLES, table=TABLE)
)


def main() -> None:
    """Entry point of the command `vlv-export`."""
    sys.exit(run(app, name="vlv-export", extras={**EXTRAS, **OURS, "onnxruntime": "runtime"}))
