"""Figures as people read them: three significant digits, units in the heads, never a blank."""

import math
from collections.abc import Sequence
from dataclasses import replace

from vlv_benchmarks.record import Group, Latency, Ratio, Row

NONE = "–"


def figure(value: float | None) -> str:
    """Three significant digits, without an exponent where zeros stay few: 0.0123, 12.3, 1,234; a
    dash for None."""
    if value is None:
        return NONE
    if value == 0:
        return "0"
    rounded = abs(float(f"{value:.3g}"))
    if rounded < 1e-6:
        return f"{value:.2e}"
    return f"{value:,.{max(2 - math.floor(math.log10(rounded)), 0)}f}"


def exact(value: float | str | None) -> str:
    """A count or a figure near 1, where the last digits are the news: 24, 65,536, 0.99998."""
    if isinstance(value, str):
        return value
    return NONE if value is None else f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"


def percent(share: float | None) -> str:
    """`42%`, `3.1%`, `0.04%`: two digits of small ones, which nought would hide."""
    if share is None:
        return NONE
    if share == 0 or share >= 0.0995:
        return f"{share:,.0%}"
    return f"{figure(float(f'{100 * share:.2g}')).rstrip('0').rstrip('.')}%"


def within(middle: float, low: float, high: float) -> str:
    """`12.3 (11.9, 12.8)`: a median and its interval."""
    return f"{figure(middle)} ({figure(low)}, {figure(high)})"


def tail(latency: Latency, value: float | None) -> str:
    """A percentile, or why there is none."""
    return f"n/a (n = {latency.n})" if value is None else figure(value)


def speed(ratio: Ratio | None) -> str:
    """`1.62x (1.55, 1.70) faster`."""
    if ratio is None:
        return NONE
    digits = 2 if ratio.median >= 0.5 else 3
    shown = (f"{each:.{digits}f}" for each in (ratio.median, ratio.low, ratio.high))
    return "{}x ({}, {}) {}".format(*shown, ratio.verdict)


def size(count: float) -> str:
    """`134 million`, `1.5 GB` without the unit's name: a count in thousands."""
    for bound, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if abs(count) >= bound:
            return f"{figure(count / bound)} {name}"
    return figure(count)


def told(row: Row) -> str:
    """A row by itself: `single: torch eager, batch 1, new_tokens 32`."""
    options = "".join(f", {name} {value}" for name, value in sorted(row.options.items()))
    return f"{row.case}: {row.label}, batch {row.batch}{options}"


def names(rows: Sequence[Row]) -> dict[str, str]:
    """key -> what a row is called beside the others: its label, and what else tells it apart."""
    vary = [
        what
        for what in ("batch", "device", "threads")
        if len({getattr(row, what) for row in rows}) > 1
    ]
    options = dict.fromkeys(name for row in rows for name in row.options)
    vary_too = [name for name in options if len({row.options.get(name) for row in rows}) > 1]
    called = {row.key: _name(row, vary, vary_too) for row in rows}
    given = list(called.values())
    # two rows of one name would be taken for each other: the key tells all apart
    return {
        key: name if given.count(name) == 1 else f"{name} ({key})" for key, name in called.items()
    }


def works(rows: Sequence[Row]) -> dict[Group, str]:
    """group -> what tells its work apart from the others', `batch 8, steps 25`; empty for one."""
    first = {row.group: replace(row, label="") for row in reversed(rows)}
    called = names(list(first.values()))
    return {row.group: called[first[row.group].key].removeprefix(", ") for row in rows}


def _name(row: Row, vary: Sequence[str], options: Sequence[str]) -> str:
    said = {
        "batch": f"batch {row.batch}",
        "device": row.device,
        "threads": f"{row.threads} thread{'s' * (row.threads != 1)}",
    }
    chosen = (f"{name} {row.options[name]}" for name in options if name in row.options)
    return ", ".join([row.label, *(said[what] for what in vary), *chosen])
