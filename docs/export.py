"""Print what docs/export.md takes from the code, for cog.

python docs/export.py variants|levels|limits
"""

import sys
from collections.abc import Sequence
from dataclasses import fields

from vlv_core.plugins import load_plugins
from vlv_export.exporters import open_exporter
from vlv_export.parity.report import LEVELS
from vlv_export.parity.thresholds import LIMITS

SHOWN = {
    "relative_l2": "L1 relative L2, at most",
    "cosine": "L1 cosine, at least",
    "agreement": "L2 same best token, at least",
    "kl": "L2 mean KL in nats, at most",
    "points": "L4 points of the score, at most",
}
"""column -> heading"""


def main() -> None:
    tables = {"variants": variants, "levels": levels, "limits": limits}
    rows = [*tables[sys.argv[1]]()]
    rows.insert(1, ["---"] * len(rows[0]))
    sys.stdout.writelines(f"| {' | '.join(row)} |\n" for row in rows)


def variants() -> list[Sequence[str]]:
    """What the exporters of vlv make."""
    plugins, rows = load_plugins(third_party=False), [("flag", "dtype", "variant")]
    for name in reversed(plugins.names("exporter")):
        exporter = open_exporter(name, plugins=plugins)
        rows += [(f"`--{name}`", dtype, about) for dtype, about in exporter.dtypes.items()]
    return [*rows]


def levels() -> list[Sequence[str]]:
    """Every level of parity."""
    return [("level", "of"), *LEVELS.items()]


def limits() -> list[Sequence[str]]:
    """What each dtype may differ by."""
    known = {field.name for field in fields(next(iter(LIMITS.values())))}
    assert known >= set(SHOWN)
    rows = [("dtype", *SHOWN.values())]
    for dtype, limit in LIMITS.items():
        values = (getattr(limit, name) for name in SHOWN)
        rows.append((dtype, *("reported" if each is None else f"{each:g}" for each in values)))
    return [*rows]


if __name__ == "__main__":
    main()
