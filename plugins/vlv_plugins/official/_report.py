"""What became of every key of a checkpoint, for people and for programs."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vlv_core.files import write_atomically

SCHEMA = "vlv-import/1"
NOTES = (
    "the release never supervised the end of a text, so its language model seldom writes one: "
    "captions end at the longest length, or where they start to repeat themselves; the release "
    "cuts such captions at their last full stop, vlv leaves them as they are",
    "the release's generation takes 77 embeddings for granted; here any number works",
)


@dataclass(frozen=True)
class Report:
    """Written beside the model, as import.json and import.md."""

    checkpoint: str
    sha256: str
    """of the file, or of the index of shards"""
    stage: int
    wrapper: str
    """key that the state dict was under"""
    sizes: Mapping[str, int]
    """as the checkpoint has them"""
    parts: Mapping[str, Mapping[str, Any]]
    used: Mapping[str, str]
    """key -> piece and the name that it has there"""
    unused: Mapping[str, str]
    """key -> reason"""
    missing: Mapping[str, str]
    """part and name that the checkpoint lacks -> where they were taken from"""
    notes: list[str] = field(default_factory=list)

    def summary(self) -> list[str]:
        """A few lines for the terminal."""
        lines = [f"{self.checkpoint}: stage {self.stage} of the official release"]
        for part, told in self.parts.items():
            line = f"{part:<11}{told['plugin']:<18}{told['parameters'] / 1e6:10.1f} M parameters"
            taken = sum(map(len, told["taken"].values()))
            lines.append(f"{line}, {taken} tensors not of the checkpoint" if taken else line)
        lines.append(
            f"keys: {len(self.used)} used, {len(self.unused)} unused, {len(self.missing)} missing"
        )
        return [*lines, *(f"note: {note}" for note in self.notes)]

    def write(self, folder: Path) -> None:
        """Both files."""
        folder.mkdir(parents=True, exist_ok=True)
        table = json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2, ensure_ascii=False)
        write_atomically(folder / "import.md", self.markdown().encode())
        write_atomically(folder / "import.json", f"{table}\n".encode())

    def markdown(self) -> str:
        """Counts by group, then every key."""
        sizes = ", ".join(f"{name} {value}" for name, value in self.sizes.items())
        lines = [
            f"# Import of `{self.checkpoint}`",
            "",
            f"Stage {self.stage} of the official release, sha256 `{self.sha256}`. {sizes}.",
            "",
            "| part | plugin | parameters | tensors of the checkpoint | taken from elsewhere |",
            "|---|---|---:|---:|---|",
        ]
        for part, told in self.parts.items():
            taken = "; ".join(f"{len(n)} from `{place}`" for place, n in told["taken"].items())
            row = (part, told["plugin"], told["parameters"], told["from_checkpoint"], taken or "-")
            lines.append(f"| {' | '.join(map(str, row))} |")
        lines += ["", "## Notes", "", *(f"- {note}" for note in self.notes)]
        lines += ["", f"## Unused keys ({len(self.unused)})", ""]
        reasons = Counter(self.unused.values())
        lines += [f"- {count} x {reason}" for reason, count in reasons.most_common()]
        lines += ["", *(f"- `{key}`: {reason}" for key, reason in self.unused.items())]
        lines += ["", f"## Missing from the checkpoint ({len(self.missing)})", ""]
        lines += [f"- `{name}`: from `{place}`" for name, place in self.missing.items()]
        lines += ["", f"## Used keys ({len(self.used)})", ""]
        lines += [f"- `{key}`: {place}" for key, place in self.used.items()]
        return "\n".join(lines) + "\n"
