"""Print what docs/export.md takes from the code, for cog.

python docs/export.py variants|levels|limits|proof
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

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
KEPT = (
    ("L1 relative L2", "L1", "relative L2", "max"),
    ("L1 cosine", "L1", "cosine", "min"),
    ("L2 same best token", "L2", "best token the same", "min"),
    ("L2 KL, nats", "L2", "mean KL (nats)", "max"),
    ("L3 same captions", "L3", "captions the same, share", "min"),
    ("L4 scene F1, points off", "L4", "difference, points", "max"),
)
"""heading, level, figure, and which end of it is the worst"""
PROOF = Path(__file__).with_name("mini-proof.json")
"""what `vlv-export mini --onnx --reconstruct` reported; `keep` makes it of an artefact"""


def main() -> None:
    if sys.argv[1] == "keep":
        return keep(Path(sys.argv[2]))
    tables = {"variants": variants, "levels": levels, "limits": limits, "proof": proof}
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


def proof() -> list[Sequence[str]]:
    """A kept proof, a row a variant."""
    kept = json.loads(PROOF.read_text(encoding="utf-8"))
    heads = ("variant", "size", "state", *(title for title, *_ in KEPT))
    rows = [heads]
    for name, found in kept["variants"].items():
        size = f"{found['bytes'] / 1e6:.1f} MB"
        cells = (shown(found["figures"].get(title)) for title, *_ in KEPT)
        rows.append((f"`{name}`", size, found["state"], *cells))
    return [*rows]


def shown(value: float | None) -> str:
    return "not run" if value is None else f"{value:.4g}"


def keep(artefact: Path) -> None:
    """Write PROOF from an artefact's report: of each figure the worst over parts and outputs."""
    report = json.loads((artefact / "reports" / "parity.json").read_text(encoding="utf-8"))
    variants = {
        name: {
            "bytes": sum(f.stat().st_size for f in (artefact / "variants" / name).iterdir()),
            "state": state(found),
            "figures": {title: worst(found, *place) for title, *place in KEPT},
        }
        for name, found in report["variants"].items()
    }
    text = json.dumps({"variants": variants}, indent=1)
    PROOF.write_text(f"{text}\n", encoding="utf-8")


def state(found: dict[str, Any]) -> str:
    """`proved` only if every level was run."""
    if found["verdict"] != "passed":
        return "rejected"
    left = any(each["state"] == "not run" for each in found["levels"])
    return "built, not run" if left else "proved"


def worst(found: dict[str, Any], level: str, figure: str, pick: str) -> float | None:
    """The worst of a figure in a level; None if the level did not run."""
    checks = [
        check for each in found["levels"] if each["level"] == level for check in each["checks"]
    ]
    values = [float(check["value"]) for check in checks if check["figure"] == figure]
    return (max if pick == "max" else min)(values, default=None)


if __name__ == "__main__":
    main()
