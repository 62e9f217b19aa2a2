"""`vlv-bench peers`: other people's programs, and environments of their own for some."""

from __future__ import annotations

import click

from vlv_core.errors import UsageError

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
    from vlv_benchmarks.peers import PEERS, refusal, versions

    width = max(len(peer.name) for peer in PEERS)
    for peer in PEERS:
        reason = refusal(peer)
        told = ", ".join(f"{name} {number}" for name, number in versions(peer).items())
        state = f"not run: {reason}" if reason else f"ready ({told})"
        click.echo(f"{peer.name:{width}}  {peer.label}: {state}")


def _set_up(name: str) -> None:
    """Raises UsageError for a peer that has no environment of its own, VlvError if pip fails."""
    from vlv_benchmarks.peers import environments, named
    from vlv_benchmarks.peers.making import set_up

    peer = named(name)
    if not peer.packages:
        raise UsageError(
            f"{name} lives in vlv's own environment", hint=f"pip install {peer.install}"
        )
    click.echo(
        f"installing {', '.join(peer.packages)} into {environments() / peer.name}; it takes "
        "minutes, and Ctrl-C stops it", err=True
    )  # fmt: skip
    python = set_up(peer, say=lambda line: click.echo(line, err=True))
    click.echo(f"ready: {python}")
