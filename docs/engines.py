"""Real output for docs/engines.md: run the commands and keep what they print, or show it for cog.

python docs/engines.py keep FOLDER      (minutes; FOLDER is where the artefacts go)
python docs/engines.py show NAME
"""

import json
import subprocess
import sys
from pathlib import Path

KEPT = Path(__file__).with_name("engines-mini.json")
COMMANDS = {
    "export": "vlv-export mini -o OUT --onnx --rtx --sm 86,89,120",
    "inspect": "vlv-export inspect OUT",
    "again": "vlv-export build OUT --sm 80",
    "pending": "vlv-export mini -o OUT-trt --trt",
    "waits": "vlv-export build OUT-trt",
}
"""name -> what is run, in this order"""


def keep(folder: Path) -> None:
    """Run them all, and write what each printed and its exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {}
    for name, command in COMMANDS.items():
        done = subprocess.run(
            [Path(sys.executable).with_name("vlv-export"), *command.split()[1:]],
            check=False, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        lines = [line.rstrip() for line in done.stdout.splitlines()]
        kept[name] = {"code": done.returncode, "lines": lines}
    KEPT.write_text(f"{json.dumps(kept, indent=1)}\n", encoding="utf-8")


def show(name: str) -> None:
    """A command and what it printed, as a block of code."""
    kept = json.loads(KEPT.read_text(encoding="utf-8"))[name]
    end = [f"(exit code {kept['code']})"] if kept["code"] else []
    sys.stdout.write("\n".join(["```", f"$ {COMMANDS[name]}", *kept["lines"], *end, "```", ""]))


if __name__ == "__main__":
    if sys.argv[1] == "keep":
        keep(Path(sys.argv[2]))
    else:
        show(sys.argv[2])
