"""Print the bundled model's results as the Markdown that README.md shows (cog runs this)."""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "plugins" / "vlv_plugins" / "mini" / "model"
SMOLLM2 = MODEL.with_name("smollm2")
ROWS = (
    ("captions, iid", ("splits", "iid"), 0.85),
    ("captions, held-out attribute pairs", ("splits", "held-out"), None),
    ("captions, noise", ("splits", "noise"), None),
    ("captions, JPEG quality 10", ("splits", "jpeg"), None),
    ("reconstruction from the embedding", ("reconstruction", "embedding"), 0.75),
    ("reconstruction from the caption", ("reconstruction", "caption"), None),
    ("the oracle on the originals", ("reconstruction", "original"), None),
)


def main() -> None:
    """The table of `eval.json`, and of `random.json` where stage 1 was left out."""
    report = json.loads((MODEL / "eval.json").read_text())
    options = report["evaluators"]["scenes"]["options"]
    write(f"`{report['model']}`, guidance {options['guidance']:g}, {options['steps']} steps:")
    write("")
    write("| | scene F1 (95 % interval) | pictures | target at size S |")
    write("|---|---|---|---|")
    for title, place, target in ROWS:
        write(row(title, figure(report, place), target))
    random = json.loads((MODEL / "random.json").read_text())
    steps = random["training"]["stage2"]
    write(
        row(f"*random* stage 1, {steps} steps of stage 2", figure(random, ("splits", "iid")), None)
    )
    smollm2 = json.loads((SMOLLM2 / "eval.json").read_text())
    found = figure(smollm2, ("splits", "iid"))
    write(row("captions, iid, `mini-smollm2`: SmolLM2-135M as the head", found, None))
    early = json.loads((MODEL / "training" / "f1.json").read_text())["stage2"][0]
    write(row(f"`mini`'s own stage 2 after {early['step']} steps", early, None))


def figure(report: dict[str, Any], place: tuple[str, str]) -> dict[str, float]:
    """The scene F1 that stands at a place of a report."""
    return report[place[0]][place[1]]["scene_f1"]


def row(title: str, found: dict[str, float], target: float | None) -> str:
    """One line of the table."""
    shown = f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"
    return f"| {title} | {shown} | {found['n']} | {'' if target is None else f'>= {target}'} |"


def write(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
