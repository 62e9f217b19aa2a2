"""`vlv-export build OUT`: engines, from the graphs that an artefact holds."""

from __future__ import annotations

from pathlib import Path

import click

from vlv_core.console import Session

EXAMPLES = """\
\b
Examples:
  vlv-export build OUT                                (what waited for this machine)
  vlv-export build OUT --variant rtx-bf16-sm86        (again, for the GPU that is here)
  vlv-export build OUT --sm 120                       (for another GPU)
"""


@click.command(name="build", epilog=EXAMPLES)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--variant", "variants", multiple=True, metavar="NAME",
              help="Engines to build again; those that wait if left out; may be "
              "repeated.")  # fmt: skip
@click.option("--sm", "text", metavar="LIST", help="GPUs to build for, such as 89,120.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of the proof.")
@click.pass_obj
def command(
    session: Session, *, out: Path, variants: tuple[str, ...], text: str | None, threads: int | None
) -> None:
    """Build engines of the artefact OUT on the machine where they are to run, and prove them there.

    Needs no torch and no model. OUT stays as it was until all is done; stopped, the same command
    goes on where it was. Exit code 5 if this machine cannot build what waits.
    """
    from vlv_export.building import build_engines, plan_builds, unproved_here
    from vlv_export.cli._progress import Shown
    from vlv_export.cli._tables import show_parity, show_variants
    from vlv_export.manifest import read_manifest
    from vlv_export.tensorrt.settings import read_sm

    manifest = read_manifest(out)
    wanted = plan_builds(manifest, variants=variants, sm=read_sm(text or ""))
    if not wanted and not unproved_here(manifest):
        are = "is" if len(manifest.variants) == 1 else "are"
        click.echo(f"nothing waits: {', '.join(manifest.variants)} of {out} {are} built")
        return
    try:
        outcome = build_engines(
            out, wanted, plugins=session.plugins(), watcher=Shown(), threads=threads
        )
    except KeyboardInterrupt:
        click.echo("hint: the same command goes on from here", err=True)
        raise
    show_parity(outcome.reports)
    show_variants(outcome.manifest)
