"""The environment of a peer: made by pip, looked into by an import, and only then marked whole."""

import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from vlv_benchmarks.peers import MARK, Peer, environments, python_of
from vlv_core.errors import VlvError
from vlv_core.files import write_atomically

SHOWN = ("Collecting", "Downloading", "Building", "Installing", "Successfully")
"""beginnings of pip's lines that tell how far it is"""
KEPT = 12
"""last lines that stand in an error"""
OURS = ("click", "numpy", "pillow", "pluggy", "safetensors", "tomli-w")
"""what vlv_core and vlv_benchmarks import where they need no torch"""
LOOK = """
import importlib, json, sys
from importlib.metadata import version
asked = json.load(sys.stdin)
for name in (*asked["imports"], "vlv_benchmarks.child"):
    importlib.import_module(name)
print(json.dumps({name: version(name) for name in asked["versions"]}))
"""
Say = Callable[[str], None]


def set_up(peer: Peer, *, say: Say) -> Path:
    """Make the peer's environment afresh; its interpreter. What stops halfway is not taken for
    whole: the mark is written last. Raises VlvError, with pip's last lines, if it cannot be made.
    """
    folder = environments() / peer.name
    _keep_from_git(environments())
    (folder / MARK).unlink(missing_ok=True)
    _run(say, sys.executable, "-m", "venv", "--clear", str(folder))
    python = str(folder / "bin" / "python")
    _run(say, *_pip(python, "install", "--progress-bar", "off"), *peer.packages, *OURS)
    if peer.unwanted:
        _run(say, *_pip(python, "uninstall", "--yes"), *peer.unwanted)
    # vlv itself without its libraries: only its own modules are read there
    _run(say, *_pip(python, "install", "--no-deps"), *_source())
    mark = {"packages": list(peer.packages), "versions": _looked_into(peer, python)}
    write_atomically(folder / MARK, f"{json.dumps(mark, indent=1)}\n".encode())
    return Path(python_of(peer))


def _pip(python: str, *rest: str) -> tuple[str, ...]:
    return (python, "-m", "pip", *rest)


def _source() -> tuple[str, ...]:
    """How pip finds this very vlv: its working tree, or its version."""
    from importlib.metadata import version

    tree = Path(__file__).parents[3]
    if (tree / "pyproject.toml").is_file():
        return ("--editable", str(tree))
    return (f"vlv=={version('vlv')}",)


def _keep_from_git(folder: Path) -> None:
    """Gigabytes that belong in nobody's repository."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")


def _run(say: Say, *command: str) -> None:
    """Tell what a command does while it goes on."""
    last: deque[str] = deque(maxlen=KEPT)
    started = time.monotonic()
    try:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 text=True, errors="replace")  # fmt: skip
    except OSError as error:
        raise VlvError(f"the environment cannot be made: {error}") from error
    try:
        assert child.stdout is not None
        for line in map(str.strip, child.stdout):
            if line:
                last.append(line[:300])
            if line.startswith(SHOWN):
                say(f"{time.monotonic() - started:4.0f} s  {line[:110]}")
        code = child.wait()
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()
    if code:
        raise VlvError(
            "\n".join(["the environment cannot be made; the last lines of "
                       f"'{' '.join(command[1:4])}' (code {code}):", *last]),
            hint="what it names is missing or does not go together; the same command begins again",
        )  # fmt: skip


def _looked_into(peer: Peer, python: str) -> dict[str, str]:
    """Versions of what a figure depends on, once all can be imported there."""
    asked = json.dumps({"imports": peer.requires, "versions": peer.shows})
    done = subprocess.run(
        [python, "-c", LOOK], input=asked, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-KEPT:]
        raise VlvError(
            "\n".join([f"what was installed for {peer.name} cannot be imported:", *last])
        )
    # a library may print while it is imported
    versions: dict[str, str] = json.loads(done.stdout.strip().splitlines()[-1])
    return versions
