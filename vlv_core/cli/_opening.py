"""The options that say how a captioner is opened: the same for every command that opens one."""

from collections.abc import Callable
from typing import Any

import click

_OPTIONS = (
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    click.option(
        "--dtype",
        default="float32",
        show_default=True,
        help="Of the computation; of an artefact, its variant.",
    ),
    click.option("--threads", type=int, help="CPU threads of the model."),
)


def opening_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--device, --dtype and --threads, in this order."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
