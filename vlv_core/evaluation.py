"""Running registered evaluators over a captioner; their figures as one report and as tables.

An evaluator is `evaluate(captioner, options, *, watcher) -> dict`. What it returns are groups of
entries of figures, such as {"splits": {"iid": {"scene_f1": figure}}}, each figure
{"value": 0.93, "low": 0.92, "high": 0.94, "n": 2000}.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from vlv_core.config import configure, to_dict
from vlv_core.errors import PluginError
from vlv_core.registry import Plugins, Registered, require
from vlv_core.specs import resolve
from vlv_core.strips import Row

SCHEMA = "vlv-eval/1"
TITLES = ("original", "from the embedding", "from the caption")
"""of the pictures in the rows that evaluators show"""

Report = dict[str, Any]


class Watcher:
    """Told how far an evaluation is, and what is worth looking at. This one ignores both."""

    def progress(self, what: str, done: int, total: int) -> None:
        """`done` of `total` pictures of the step `what` are finished."""

    def show(self, row: Row) -> None:
        """An example: pictures as `TITLES` says, the caption, and what is right in it."""


class Table(NamedTuple):
    """One group of figures: a row a figure, a column an entry; None where an entry has none."""

    title: str
    columns: list[str]
    rows: dict[str, list[Mapping[str, float] | None]]


def evaluate(
    captioner: Any,
    *,
    plugins: Plugins,
    names: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
    watcher: Watcher | None = None,
) -> Report:
    """Run evaluators (all that are registered, unless named) and join what they report.

    `options` go to each evaluator's own config, `defaults` to those that have such. Raises
    PluginError for unknown names and where two evaluators report one group, ConfigError for
    options that an evaluator does not have.
    """
    chosen = [plugins.get("evaluator", name) for name in names] or plugins.all("evaluator")
    if not chosen:
        raise PluginError("no evaluator is installed", hint="'vlv plugins' lists what was found")
    report: Report = {
        "schema": SCHEMA,
        "model": captioner.name,
        "domain": captioner.domain,
        "evaluators": {},
    }
    for item in chosen:
        wanted = {**_fitting(item, defaults or {}), **(options or {})}
        _run(item, captioner, wanted, watcher or Watcher(), report)
    return report


def _run(
    item: Registered,
    captioner: Any,
    options: Mapping[str, Any],
    watcher: Watcher,
    report: Report,
) -> None:
    spec = item.spec
    require(spec, f"evaluator {spec.name!r}")
    config = configure(spec.config, options, f"evaluator {spec.name}")
    started = time.perf_counter()
    figures = resolve(spec.evaluate)(captioner, config, watcher=watcher)
    # Joined at the top, so that eval.json says splits.iid.scene_f1 whoever measured it.
    for group in figures:
        if group in report:
            raise PluginError(
                f"evaluator {spec.name!r} reports {group!r}, which is in the report already",
                hint="choose one evaluator by --evaluator",
            )
    report |= figures
    report["evaluators"][spec.name] = {
        "options": {} if config is None else to_dict(config),
        "seconds": round(time.perf_counter() - started, 1),
    }


def _fitting(item: Registered, defaults: Mapping[str, Any]) -> dict[str, Any]:
    config = item.spec.config
    own = {each.name for each in fields(config)} if config is not None else set()
    return {name: value for name, value in defaults.items() if name in own}


def tables(report: Report) -> list[Table]:
    """Every group of figures of a report, in its order."""
    return [
        Table(
            group,
            list(entries),
            {
                name: [entry.get(name) for entry in entries.values()]
                for name in dict.fromkeys(name for entry in entries.values() for name in entry)
            },
        )
        for group, entries in report.items()
        if isinstance(entries, dict) and group != "evaluators"
    ]


def markdown(report: Report) -> str:
    """The report for people: what was measured, then a table a group, with intervals."""
    lines = [f"# Evaluation of {report['model']}", "", report["domain"] or "Domain not stated.", ""]
    for name, run in report["evaluators"].items():
        given = ", ".join(f"{key} {value}" for key, value in run["options"].items())
        lines += [f"Evaluator `{name}`: {given}; {run['seconds']} s.", ""]
    lines += ["In brackets: 95 % intervals by bootstrap over pictures.", ""]
    for table in tables(report):
        lines += [f"## {table.title}", ""]
        lines += [f"| | {' | '.join(table.columns)} |", "|---" * (len(table.columns) + 1) + "|"]
        for name, cells in table.rows.items():
            lines.append(f"| {name} | {' | '.join(map(interval, cells))} |")
        lines.append("")
    return "\n".join(lines)


def interval(figure: Mapping[str, float] | None) -> str:
    """`0.931 (0.922 to 0.940)`, or a dash."""
    if figure is None:
        return "-"
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"
