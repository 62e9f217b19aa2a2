"""`--plugin ./my_encoder.py`: a local file is a plugin, without packaging."""

import sys
from pathlib import Path
from typing import Any

import pytest

from vlv_core.errors import PluginError
from vlv_core.plugins import load_plugins
from vlv_core.specs import resolve

SOURCE = """\
from vlv_core import EncoderSpec, hookimpl

@hookimpl
def vlv_encoders():
    return [EncoderSpec(name="mine", build="vlv_test_file:build", summary="my encoder")]

def build(config, near):
    return "built"
"""


@pytest.fixture
def file(site: Any, tmp_path: Path) -> Path:
    path = tmp_path / "vlv_test_file.py"
    path.write_text(SOURCE)
    return path


def test_a_file_is_a_plugin_and_its_reference_resolves(file: Path) -> None:
    mine = load_plugins(files=[file]).get("encoder", "mine")
    assert mine.owner.is_local and str(mine.owner) == str(file)
    assert resolve(mine.spec.build)(None, None) == "built"


def test_a_file_counts_when_third_party_plugins_are_off(file: Path) -> None:
    assert "mine" in load_plugins(files=[file], third_party=False).names("encoder")


def test_a_file_named_twice_counts_once(file: Path) -> None:
    plugins = load_plugins(files=[file, file.parent / "." / file.name])
    assert plugins.get("encoder", "mine")
    assert not [record for record in plugins.broken if record.owner.is_local]


def test_a_second_discovery_takes_the_same_module(file: Path) -> None:
    first = load_plugins(files=[file]).get("encoder", "mine")
    module = sys.modules["vlv_test_file"]
    assert load_plugins(files=[file]).get("encoder", "mine") == first
    assert sys.modules["vlv_test_file"] is module


def test_a_file_in_the_current_folder_is_no_namesake_of_itself(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(file.parent)
    assert load_plugins(files=[file]).get("encoder", "mine")


def test_a_file_may_be_blocked(file: Path) -> None:
    assert "mine" not in load_plugins(files=[file], block=["vlv_test_file"]).names("encoder")


def test_a_file_and_a_distribution_of_one_name_are_ambiguous(site: Any, file: Path) -> None:
    site.plugin("rival", site.encoders("mine"))
    plugins = load_plugins(files=[file])
    with pytest.raises(PluginError, match=r"'mine' is offered by vlv-rival .* and by .*file\.py"):
        plugins.get("encoder", "mine")


@pytest.mark.parametrize(
    ("name", "source", "reason"),
    [
        ("absent.py", None, "cannot be imported: no such file"),
        ("notes.txt", "hello", r"cannot be imported: not a Python file \(\.py\)"),
        ("random.py", SOURCE, r"module 'random' exists already in .*random\.py; rename the file"),
        ("sys.py", SOURCE, "module 'sys' exists already in built-in; rename the file"),
        ("wrong.py", "import no_such_library", "ModuleNotFoundError: No module named"),
        ("empty.py", "", "implements no hook"),
    ],
)
def test_a_file_that_cannot_be_used(
    site: Any, tmp_path: Path, name: str, source: str | None, reason: str
) -> None:
    path = tmp_path / name
    if source is not None:
        path.write_text(source)
    plugins = load_plugins(files=[path])
    assert "query" in plugins.names("bottleneck")
    with pytest.raises(PluginError, match=reason) as caught:
        plugins.require_local()
    assert str(path) in str(caught.value)


def test_a_file_that_fails_can_be_mended_and_tried_again(site: Any, tmp_path: Path) -> None:
    path = tmp_path / "vlv_test_mended.py"
    path.write_text("import no_such_library\n")
    assert load_plugins(files=[path]).broken
    path.write_text(SOURCE + "\n# mended\n")
    assert load_plugins(files=[path]).get("encoder", "mine")
