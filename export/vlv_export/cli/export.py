"""`vlv-export MODEL -o OUT --onnx`: the export itself."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlv_core.console import Session
from vlv_core.errors import NotProved, UsageError
from vlv_export.cli._flags import ExportCommand, chosen, given

if TYPE_CHECKING:
    from vlv_core.registry import Plugins
    from vlv_export.manifest import Manifest, VariantEntry
    from vlv_export.pipeline import Order


@click.command(name="export", cls=ExportCommand)
@click.argument("model")
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="OUT",
              help="Folder to make.")  # fmt: skip
@click.option("--dtype", metavar="LIST", help="Variants, such as fp32,int8; the exporter's default "
              "if left out.")  # fmt: skip
@click.option("--reconstruct", is_flag=True, help="Export the diffusion too, so that it can draw.")
@click.option("--random-weights", is_flag=True,
              help="MODEL is a recipe: export its architecture at real size.")  # fmt: skip
@click.option("--default", metavar="NAME", help="Variant that runs if none is named.")
@click.option("--force", is_flag=True, help="Replace OUT, once the new one is whole.")
@click.option("--dry-run", is_flag=True, help="Say what would be made and how large, and stop.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    model: str,
    out: Path | None,
    dtype: str | None,
    reconstruct: bool,
    random_weights: bool,
    default: str | None,
    force: bool,
    dry_run: bool,
    threads: int | None,
) -> None:
    """Export MODEL to the folder OUT, and prove it.

    MODEL is a bundled model's name, a model's folder, or with --random-weights a recipe's file.
    Stopped or killed, the same command goes on where it was.
    """
    from vlv_export.exporters import choose_dtypes, open_exporters
    from vlv_export.pipeline import Order

    plugins = ctx.find_object(Session).plugins()  # type: ignore[union-attr]
    flags = _flags(chosen(ctx), plugins)
    if out is None and not dry_run:
        raise click.UsageError("missing option -o OUT, the folder to make", ctx)
    exporters = open_exporters(flags, plugins=plugins, options=given(ctx))
    wanted = [] if dtype is None else [each.strip() for each in dtype.split(",") if each.strip()]
    order = Order(
        model=model,
        out=out or Path("OUT"),
        exporters=exporters,
        dtypes=choose_dtypes(exporters, wanted),
        plugins=plugins,
        reconstruct=reconstruct,
        random_weights=random_weights,
        force=force,
        default=default,
        threads=threads,
    )
    if dry_run:
        _dry_run(order)
    else:
        _export(order)


def _flags(flags: list[str], plugins: Plugins) -> list[str]:
    if flags:
        return flags
    there = plugins.names("exporter")
    raise UsageError(
        f"nothing to export to; there are {', '.join(f'--{name}' for name in there) or 'none'}",
        hint="name at least one, such as: vlv-export mini -o OUT --onnx",
    )


def _dry_run(order: Order) -> None:
    from vlv_export._pipeline import make_plan
    from vlv_export.cli._tables import show_plan

    _, plan = make_plan(order)
    parent = next(each for each in order.out.absolute().parents if each.exists())
    show_plan(plan, free=shutil.disk_usage(parent).free)


def _export(order: Order) -> None:
    from vlv_export._pipeline import export
    from vlv_export.cli._progress import Shown
    from vlv_export.cli._tables import show_parity, show_variants

    try:
        outcome = export(order, Shown())
    except KeyboardInterrupt:
        click.echo("hint: the same command goes on from here", err=True)
        raise
    except NotProved:
        _show_rejected(order.out)
        raise
    show_parity(outcome.reports)
    show_variants(outcome.manifest)
    click.echo(f"next: {_next(order, outcome.manifest)}")
    waiting = [each.waits for each in outcome.manifest.variants.values() if each.waits]
    if waiting:
        raise NotProved(
            "; ".join(waiting),
            hint=f"{order.out} is whole, and 'vlv-export build {order.out}' finishes it there",
        )


def _next(order: Order, manifest: Manifest) -> str:
    """What to do with the default variant; one that another program runs says itself how."""
    if manifest.default is not None:
        where = _where(manifest.variant(None))
        return f"{where}vlv caption --model {order.out} PICTURE"
    told = sorted((order.out / "variants").glob("*/README.md"))
    return f"read {told[0]}" if told else f"vlv-export inspect {order.out}"


def _where(entry: VariantEntry) -> str:
    """Said of an engine that this machine cannot run."""
    from vlv_export.engine_facts import targets
    from vlv_export.manifest import ENGINES
    from vlv_export.tensorrt.proof import not_run_here

    elsewhere = entry.exporter in ENGINES and not_run_here(entry)
    return f"on a machine with {targets(entry)}: " if elsewhere else ""


def _show_rejected(out: Path) -> None:
    from vlv_export.cli._tables import show_parity
    from vlv_export.parity.report import read_json
    from vlv_export.workspace import beside

    show_parity(read_json(beside(out, "rejected") / "reports" / "parity.json"))
