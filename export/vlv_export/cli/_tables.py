"""What the commands print: plans, variants, parity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vlv_export.card import size_of, tightest
from vlv_export.engine_facts import compiled_from, compiler, memory, profiles, targets
from vlv_export.manifest import ENGINES
from vlv_export.parity.report import LEVELS
from vlv_export.workspace import gigabytes

if TYPE_CHECKING:
    from vlv_export.manifest import Manifest
    from vlv_export.parity.report import Check, Report
    from vlv_export.pipeline import Plan

WIDE = 160
"""columns of a table that is not printed to a terminal"""


def show_plan(plan: Plan, *, free: int) -> None:
    """What an export would make."""
    rows = [
        (each.name, gigabytes(each.bytes), f"--{flag}", each.waits or each.not_run or "")
        for flag, variants in plan.variants.items()
        for each in variants
    ]
    _print(f"{plan.model}, {plan.weights / 1e6:.1f} million weights",
           ("variant", "about", "by", "note"), rows)  # fmt: skip
    console = _console()
    console.print(f"parts: {', '.join(plan.parts)}")
    console.print(
        f"disk: about {gigabytes(plan.out_bytes)} when done, {gigabytes(plan.peak_bytes)} while it "
        f"runs; {gigabytes(free)} free"
    )


def show_variants(manifest: Manifest) -> None:
    """A line for each variant of an artefact."""
    rows = []
    for name, entry in manifest.variants.items():
        kv = entry.kv
        cache = f"{kv['bytes_per_token'] / 1e3:.1f} kB" if kv.get("bytes_per_token") else ""
        rows.append(
            (
                f"{name} (default)" if name == manifest.default else name,
                gigabytes(size_of(manifest, entry)),
                _shares(entry.precision.get("proved", {})),
                cache,
                entry.state,
                ", ".join(entry.graphs),
            )
        )
    _print("variants", ("variant", "size", "weights are", "cache a token", "state", "parts"), rows)


def show_engines(manifest: Manifest) -> None:
    """A line for each engine, and a sentence for each that waits."""
    engines = {n: each for n, each in manifest.variants.items() if each.exporter in ENGINES}
    if not engines:
        return
    rows = [
        (name, *(fact(entry) for fact in (targets, compiler, compiled_from, profiles, memory)))
        for name, entry in engines.items()
    ]
    _print("engines", ("variant", "for", "by", "from", "profiles", "GPU memory"), rows)
    for entry in engines.values():
        if entry.waits:
            _console().print(Text(entry.waits))


def show_parity(reports: Mapping[str, Report]) -> None:
    """A line for each variant and level, with the figure that is nearest to its bound."""
    rows = []
    for name, report in reports.items():
        for level in report.levels:
            check = tightest(level)
            rows.append(
                (
                    name,
                    f"{level.level} {LEVELS[level.level]}",
                    level.state,
                    _figure(check) if check else level.reason,
                )
            )
    _print("parity", ("variant", "level", "state", "nearest to its bound"), rows)


def _figure(check: Check) -> str:
    value = f"{check.value:.2g}" if abs(check.value) < 1e-3 else f"{check.value:.4g}"
    return f"{check.part} {check.output}: {check.figure} {value} ({check.allowed})"


def _shares(proved: Mapping[str, float]) -> str:
    return ", ".join(f"{kind} {share:.0%}" for kind, share in proved.items())


def _print(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    _console().print(table, "")


def _console() -> Console:
    """On a terminal as wide as that; elsewhere as wide as the tables are."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)
