"""A flag for each registered exporter, and the options that exporters add, found when the command
line is read."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from vlv_core.console import Session
from vlv_core.registry import Plugins, available
from vlv_core.specs import ExporterOption

_FLAGS, _CHOSEN, _GIVEN = (f"{__name__}.{what}" for what in ("flags", "chosen", "given"))


class Unnamed(click.Context):
    """Of a group's default command: usage and hints leave out its name, as users do."""

    @property
    def command_path(self) -> str:
        return self.parent.command_path if self.parent else super().command_path


class ExportCommand(click.Command):
    """A command with a flag for every registered exporter beside its own options."""

    context_class = Unnamed

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`--plugin` and `--block` count wherever they stand: they decide which flags exist."""
        before = ctx.ensure_object(Session)
        session = Session(
            files=[*before.files, *map(Path, _values(args, "--plugin"))],
            block=[*before.block, *_values(args, "--block")],
        )
        ctx.meta[_FLAGS] = _flags(session.find_plugins())
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Help may be asked for without parsing."""
        if _FLAGS not in ctx.meta:
            ctx.meta[_FLAGS] = _flags(ctx.ensure_object(Session).find_plugins())
        own = super().get_params(ctx)
        taken = {parameter.name for parameter in own}
        return [*(flag for flag in ctx.meta[_FLAGS] if flag.name not in taken), *own]


def chosen(ctx: click.Context) -> list[str]:
    """The exporters whose flags were given, each once."""
    return list(dict.fromkeys(ctx.meta.get(_CHOSEN, ())))


def given(ctx: click.Context) -> dict[str, str]:
    """The exporters' options that were given, by name without the dashes."""
    return dict(ctx.meta.get(_GIVEN, {}))


def _flags(plugins: Plugins) -> list[click.Parameter]:
    specs = {item.spec.name: item.spec for item in plugins.all("exporter")}
    flags: list[click.Parameter] = [
        click.Option(
            [f"--{name}", name.replace("-", "_")],
            is_flag=True,
            expose_value=False,
            callback=_choose,
            help=f"{spec.summary}; {available(spec) or 'available'}.",
        )
        for name, spec in specs.items()
    ]
    # By name: exporters that share an option share its meaning.
    options = {each.name: each for spec in specs.values() for each in spec.options}
    return [*flags, *map(_option, options.values())]


def _option(option: ExporterOption) -> click.Parameter:
    return click.Option(
        [f"--{option.name}", option.name.replace("-", "_")],
        metavar=option.metavar or None,
        is_flag=not option.metavar,
        expose_value=False,
        callback=_remember,
        help=option.help,
    )


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value:
        name = parameter.opts[0].removeprefix("--")
        ctx.meta.setdefault(_GIVEN, {})[name] = "yes" if value is True else value


def _choose(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value:
        name = parameter.opts[0].removeprefix("--")
        ctx.meta.setdefault(_CHOSEN, []).append(name)


def _values(args: list[str], option: str) -> list[str]:
    """What follows an option, as a word of its own or after `=`."""
    apart = [value for word, value in pairwise(args) if word == option]
    joined = [word.partition("=")[2] for word in args if word.startswith(f"{option}=")]
    return [*apart, *joined]
