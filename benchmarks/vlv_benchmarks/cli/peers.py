"""`vlv-bench peers`: other people's programs, and environments of their own for some."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from vlv_core.errors import UsageError, VlvError

EXAMPLES = """\
\b
Examples:
  vlv-bench peers list
  vlv-bench peers setup openvino-genai
  vlv-bench run decode -o OUT
"""


@click.command(name="peers", epilog=EXAMPLES)
@click.argument("action", type=click.Choice(["list", "setup"]))
@click.argument("name", required=False)
def command(*, action: str, name: str | None) -> None:
    """List the programs that `run decode` compares with, or set up the environment of NAME.

    A program whose libraries do not go with vlv's lives in a virtual environment of its own.
    """
    if action == "list":
        _list()
    elif name is None:
        raise UsageError("no peer is named", hint="vlv-bench peers setup NAME; 'list' names them")
    else:
        _set_up(name)


def _list() -> None:
    from vlv_benchmarks.peers import PEERS, refusal

    width = max(len(peer.name) for peer in PEERS)
    for peer in PEERS:
        reason = refusal(peer)
        state = f"not run: {reason}" if reason else "ready"
        click.echo(f"{peer.name:{width}}  {peer.label}: {state}")


def _set_up(name: str) -> None:
    """Raises UsageError for a peer that has no environment of its own, VlvError if pip fails."""
    from vlv_benchmarks.peers import environments, named, python_of

    peer = named(name)
    if not peer.packages:
        raise UsageError(
            f"{name} lives in vlv's own environment",
            hint=f"pip install {' '.join(each.partition('.')[0] for each in peer.requires)}",
        )
    folder = environments() / peer.name
    click.echo(f"installing {', '.join(peer.packages)} into {folder}", err=True)
    _run(sys.executable, "-m", "venv", "--clear", str(folder))
    python = folder / "bin" / "python"
    _run(str(python), "-m", "pip", "install", "--quiet", *peer.packages, *_vlv())
    if peer.unwanted:
        _run(str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *peer.unwanted)
    # vlv itself without its libraries: only its own modules are read there
    _run(str(python), "-m", "pip", "install", "--quiet", "--no-deps", *_source())
    click.echo(f"ready: {python_of(peer)}")


def _vlv() -> tuple[str, ...]:
    """What vlv_core and vlv_benchmarks import where they need no torch."""
    return ("click", "numpy", "pillow", "pluggy", "safetensors", "tomli-w")


def _source() -> tuple[str, ...]:
    """How pip finds this very vlv: its working tree, or its version."""
    from importlib.metadata import version

    tree = Path(__file__).parents[3]
    if (tree / "pyproject.toml").is_file():
        return ("--editable", str(tree))
    return (f"vlv=={version('vlv')}",)


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise VlvError(f"the environment cannot be made: {error}") from error
