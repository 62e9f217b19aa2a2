"""The template that users copy installs as it is, is found, and keeps the encoder's contract."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).parents[2] / "plugins" / "vlv-plugin-template"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which pip has installed the template's wheel."""
    target = tmp_path_factory.mktemp("template")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    pip += ["--no-index", "--disable-pip-version-check", "--target", str(target), str(TEMPLATE)]
    subprocess.run(pip, check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": str(target)}


def test_it_is_listed_with_its_owner(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "vlv_core", "plugins", "--json"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    [row] = [row for row in json.loads(done.stdout)["plugins"] if row["name"] == "patch-mean"]
    assert (row["owner"], row["plugin"], row["role"]) == (
        "vlv-plugin-template",
        "template",
        "encoder",
    )
    assert row["available"]


def test_its_own_tests_pass_against_the_installed_wheel(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(TEMPLATE)]
    done = subprocess.run(
        command, env=environment, check=False, capture_output=True, text=True, cwd=TEMPLATE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def test_it_imports_only_public_names() -> None:
    import ast

    import vlv_core

    allowed = {"vlv_core": set(vlv_core.__all__), "vlv_core.conformance": None}
    for path in sorted(TEMPLATE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vlv_core"):
                names = allowed[node.module or ""]
                assert names is None or {alias.name for alias in node.names} <= names, path
