"""plugins/README.md: its plugin works as printed, and its reference is what the code says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vlv_core.conformance import EncoderConformance
from vlv_core.plugins import load_plugins
from vlv_core.registry import ROLES

ROOT = Path(__file__).parents[2]
README = (ROOT / "plugins" / "README.md").read_text(encoding="utf-8")


def block(after: str) -> str:
    """The first Python block below a heading."""
    match = re.search(r"```python\n(.*?)```", README[README.index(after) :], re.DOTALL)
    assert match
    return match[1]


def test_a_plugin_is_15_lines() -> None:
    lines = [line for line in block("## A plugin in 15 lines").splitlines() if line.strip()]
    assert len(lines) <= 15
    assert max(map(len, lines)) <= 100


def test_the_plugin_works_and_keeps_its_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "my_encoder.py"
    path.write_text(block("## A plugin in 15 lines"))
    plugins = load_plugins(files=[path])
    plugins.require_local()

    class Mine(EncoderConformance):
        spec = plugins.get("encoder", "mine").spec

    checks = [name for name in dir(Mine) if name.startswith("test_")]
    checks.remove("test_importing_the_plugin_loads_no_torch")
    for name in checks:
        check = getattr(Mine(), name)
        check() if name == "test_builds_on_the_meta_device" else check(Mine().build())
    monkeypatch.delitem(sys.modules, "my_encoder")


def test_the_commands_it_shows_exist(tmp_path: Path) -> None:
    path = tmp_path / "my_encoder.py"
    path.write_text(block("## A plugin in 15 lines"))
    command = [sys.executable, "-m", "vlv_core", "plugins", "--plugin", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert re.search(r"encoder +mine +\S*my_encoder\.py", done.stdout)


def test_the_reference_is_up_to_date() -> None:
    command = [sys.executable, "-m", "cogapp", "--check", "--diff", "plugins/README.md"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, f"run 'make docs':\n{done.stdout}"


@pytest.mark.parametrize("role", ROLES)
def test_every_hook_stands_in_the_reference(role: str) -> None:
    hook = ROLES[role]
    assert f"| `{hook.name}()` | `{hook.record.__name__}` |" in README
