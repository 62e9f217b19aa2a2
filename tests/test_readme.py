"""What the README says is so: its plugin works as written, its commands and files exist."""

import re
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from vlv_core.cli import app
from vlv_core.compose import choose
from vlv_core.plugins import load_plugins
from vlv_core.specs import Near, resolve

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def encoder_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delitem(sys.modules, "my_encoder", raising=False)
    source = next(block for block in blocks("python") if "vlv_encoders" in block)
    path = tmp_path / "my_encoder.py"
    path.write_text(source)
    return path


def test_the_encoder_of_the_readme_is_a_plugin(encoder_file: Path) -> None:
    plugins = load_plugins(files=[encoder_file], third_party=False)
    choice = choose("encoder", "mine", {}, plugins=plugins)
    part = resolve(choice.spec.build)(choice.config, Near(view_size=64))
    tokens = part(torch.zeros(2, 64, 64, 3, dtype=torch.uint8))
    assert tokens.shape == (2, part.num_tokens, part.dim)


def test_the_commands_of_the_readme_exist() -> None:
    commands = set(re.findall(r"^ {4}vlv ([a-z]+)", README, flags=re.MULTILINE))
    assert commands >= {"caption", "reconstruct", "eval", "train", "plugins"}
    for name in commands:
        result = CliRunner().invoke(app, [name, "--help"])
        assert result.exit_code == 0, f"vlv {name} --help: {result.output}"
        assert "Examples:" in result.output


def test_the_files_of_the_readme_exist() -> None:
    linked = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert linked
    for name in linked:
        assert (ROOT / name).exists(), f"README links to {name}"


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200
