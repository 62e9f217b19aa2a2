"""`vlv import`: one subcommand for each registered importer, found when the group is asked."""

import copy

import click

from vlv_core.console import Session, session_options
from vlv_core.registry import Plugins, require
from vlv_core.specs import resolve

EXAMPLES = """\
\b
Examples:
  vlv import --help                       (what can be imported)
  vlv import official --help
  vlv import official stage2.pt -o models/vlv
"""


class Importers(click.Group):
    """Lists importers by their specs, and imports an importer's code only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return _plugins(ctx).names("importer")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        spec = _plugins(ctx).get("importer", cmd_name).spec
        require(spec, f"importer {cmd_name!r}")
        # a copy: the plugin's own command stays as it is
        found: click.Command = copy.copy(resolve(spec.command))
        taken = {parameter.name for parameter in found.params}
        own = [option for option in session_options() if option.name not in taken]
        found.params = [*found.params, *own]
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        offered = {item.spec.name: item.spec for item in _plugins(ctx).all("importer")}
        with formatter.section("Importers"):
            formatter.write_dl([(name, spec.summary) for name, spec in offered.items()])


@click.pass_context
def _help_if_bare(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


command = Importers(
    name="import",
    help="Turn a foreign checkpoint into a model folder.",
    epilog=EXAMPLES,
    params=session_options(),
    invoke_without_command=True,
    callback=_help_if_bare,
    subcommand_metavar="IMPORTER [ARGS]...",
)


def _plugins(ctx: click.Context) -> Plugins:
    return ctx.ensure_object(Session).plugins()
