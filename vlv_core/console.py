"""What every command line of the project shares: lazy subcommands, the session, exit codes.

`run` is the one place that turns errors into exit codes and printed lines.
"""

import logging
import signal
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from vlv_core.errors import MissingExtra, VlvError, nearest

if TYPE_CHECKING:
    from vlv_core.registry import Plugins

logger = logging.getLogger(__name__)

EXTRAS = {
    **dict.fromkeys(("torch", "transformers", "accelerate", "matplotlib"), "train"),
    **dict.fromkeys(("starlette", "uvicorn", "prometheus_client"), "serve"),
}
"""libraries that core imports when a command needs them, and the pip extra that supplies each"""


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived. Whoever stops cleanly at Ctrl-C stops as cleanly at this."""


@dataclass
class Session:
    """What options before and after the subcommand said; commands get it by `pass_obj`."""

    files: list[Path] = field(default_factory=list)
    block: list[str] = field(default_factory=list)
    verbose: bool = False

    def plugins(self) -> "Plugins":
        """Discover plugins. Raises PluginError if a file given by `--plugin` is broken."""
        plugins = self.find_plugins()
        plugins.require_local()
        return plugins

    def find_plugins(self) -> "Plugins":
        """As `plugins`, but a broken file is a record like any other broken plugin."""
        from vlv_core.plugins import load_plugins

        return load_plugins(block=self.block, files=self.files)


class Lazy(NamedTuple):
    """A subcommand whose module is imported when it runs."""

    target: str
    """module that holds it as `command`"""
    summary: str


class LazyGroup(click.Group):
    """A group that lists its subcommands without importing them. The session's options are taken
    before and after the subcommand's name."""

    def __init__(self, *, name: str, help: str, epilog: str, table: Mapping[str, Lazy]) -> None:
        super().__init__(
            name=name,
            help=help,
            epilog=epilog,
            params=session_options(),
            invoke_without_command=True,
            callback=_help_if_bare,
            subcommand_metavar="COMMAND [ARGS]...",
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        )
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.table:
            known = ", ".join(self.table)
            message = f"no command {cmd_name!r}{nearest(cmd_name, self.table)}; commands: {known}"
            raise click.UsageError(message, ctx)
        command: click.Command = import_module(self.table[cmd_name].target).command
        taken = {parameter.name for parameter in command.params}
        command.params += [option for option in session_options() if option.name not in taken]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in self.table.items()])


def session_options() -> list[click.Parameter]:
    """`--plugin`, `--block` and `--verbose`, which fill the context's `Session`."""
    return [
        click.Option(
            ["--plugin"],
            multiple=True,
            type=click.Path(path_type=Path),
            metavar="FILE",
            callback=_remember,
            expose_value=False,
            help="Take a local Python file as a plugin; may be repeated.",
        ),
        click.Option(
            ["--block"],
            multiple=True,
            metavar="OWNER",
            callback=_remember,
            expose_value=False,
            help="Leave out a distribution's plugins, or one plugin; may be repeated.",
        ),
        click.Option(
            ["--verbose"],
            is_flag=True,
            callback=_remember,
            expose_value=False,
            help="Log more, with the tracebacks of errors.",
        ),
    ]


def run(
    app: click.Command,
    *,
    name: str,
    args: Sequence[str] | None = None,
    extras: Mapping[str, str] = EXTRAS,
) -> int:
    """Run a command line and return its exit code.

    0 done; 1 a failure of ours, with the traceback; 2 wrong usage or input; 130 Ctrl-C; 143
    SIGTERM; else what the error's class says. A command may also return its code.
    """
    try:
        with _terminable():
            result = app.main(args=args, prog_name=name, standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        return _exit_code(error, name, extras)
    return result if isinstance(result, int) else 0


def _exit_code(error: BaseException, name: str, extras: Mapping[str, str]) -> int:
    """Tell the user of an error, and say how the process ends."""
    if isinstance(error, click.Abort) and error.__cause__:
        error = error.__cause__
    if isinstance(error, ModuleNotFoundError):
        library = (error.name or "").partition(".")[0]
        if library in extras:
            error = MissingExtra(library, extra=extras[library])
    match error:
        case click.ClickException():
            return _usage_error(error, name)
        case KeyboardInterrupt():
            return _stopped(error)
        case VlvError():
            return _known_error(error)
        case _:
            return _unknown_error(error)


def _usage_error(error: click.ClickException, name: str) -> int:
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context else name
    click.echo(f"error: {message[:1].lower()}{message[1:]}", err=True)
    click.echo(f"hint: '{path} --help' shows the usage", err=True)
    return 2


def _known_error(error: VlvError) -> int:
    logger.debug("where it was raised:", exc_info=error)
    click.echo(f"error: {error.message}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)
    return error.exit_code


def _unknown_error(error: BaseException) -> int:
    click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    click.echo(f"error: {type(error).__name__}: {error}", err=True)
    click.echo("hint: not foreseen; please report it with the lines above", err=True)
    return 1


def _stopped(error: KeyboardInterrupt) -> int:
    terminated = isinstance(error, Terminated)
    click.echo(f"stopped by {'SIGTERM' if terminated else 'Ctrl-C'}", err=True)
    return 128 + (signal.SIGTERM if terminated else signal.SIGINT)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that files are closed and cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


@click.pass_context
def _help_if_bare(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    session = ctx.ensure_object(Session)
    match parameter.name:
        case "plugin":
            session.files += value
        case "block":
            session.block += value
        case "verbose":
            session.verbose = session.verbose or value
            _set_logging(verbose=session.verbose)


class _Echo(logging.Handler):
    """Writes to whatever stderr is at the time; StreamHandler would keep the first one."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


def _set_logging(*, verbose: bool) -> None:
    if not logging.getLogger().handlers:
        logging.basicConfig(handlers=[_Echo()], format="%(message)s", level=logging.WARNING)
    for ours in ("vlv_core", "vlv_plugins"):
        logging.getLogger(ours).setLevel(logging.DEBUG if verbose else logging.INFO)
