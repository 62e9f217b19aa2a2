"""Discovery with real distributions on sys.path: who is found, once, and who is left out."""

import email
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vlv_core.errors import PluginError
from vlv_core.plugins import load_plugins
from vlv_core.registry import ROLES, Owner, Plugins


def owners(plugins: Plugins, role: str, name: str) -> list[str]:
    return [item.owner.distribution for item in plugins.all(role) if item.spec.name == name]


def test_built_ins_enter_by_the_same_door() -> None:
    query = load_plugins().get("bottleneck", "query")
    assert (query.owner.distribution, query.owner.plugin) == ("vlv", "core")
    assert query.spec.config().num_queries == 77


def test_every_hook_has_a_role_and_every_role_a_hook() -> None:
    from vlv_core import hookspecs

    declared = {name for name in vars(hookspecs) if name.startswith("vlv_")}
    assert declared == {hook.name for hook in ROLES.values()}


def test_a_distribution_is_found_with_its_owner(site: Any) -> None:
    site.plugin("one", site.encoders("first", "second"), version="2.5")
    plugins = load_plugins()
    assert plugins.get("encoder", "first").owner == Owner("vlv-one", "2.5", "one")
    assert {"first", "second"} <= set(plugins.names("encoder"))
    assert str(plugins.get("encoder", "second").owner) == "vlv-one 2.5 (plugin 'one')"


def test_one_module_may_fill_several_roles(site: Any) -> None:
    head = "@hookimpl\ndef vlv_heads():\n    yield HeadSpec(name='h', build='m:b', summary='s')\n"
    site.plugin("both", site.encoders("e") + head)
    plugins = load_plugins()
    assert plugins.get("head", "h").owner == plugins.get("encoder", "e").owner


def test_a_distribution_that_stands_twice_on_the_path_counts_once(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.plugin("twice", site.encoders("t"), version="1.0")
    other = type(site)(tmp_path / "other")
    other.path.mkdir()
    # another spelling of the same normalised name, later on the path
    other.distribution("VLV_Twice", "twice = vlv_test_twice\n", version="0.9")
    monkeypatch.setattr(sys, "path", [*sys.path, str(other.path)])
    plugins = load_plugins()
    assert plugins.get("encoder", "t").owner.version == "1.0"
    assert not [record for record in plugins.broken if "twice" in record.owner.distribution]


def test_a_distribution_that_offers_nothing_hides_a_later_one_of_its_name(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = site.distribution("vlv-hidden", "")
    (folder / "entry_points.txt").unlink()
    other = type(site)(tmp_path / "other")
    other.path.mkdir()
    other.plugin("hidden", site.encoders("hidden"), version="0.9")
    monkeypatch.setattr(sys, "path", [*sys.path, str(other.path)])
    assert "hidden" not in load_plugins().names("encoder")


def test_a_distribution_whose_folder_is_named_otherwise_is_found(site: Any) -> None:
    site.plugin("moved", site.encoders("moved"))
    [folder] = site.path.glob("vlv_moved*")
    folder.rename(site.path / "elsewhere-1.0.dist-info")
    assert load_plugins().get("encoder", "moved").owner.distribution == "vlv-moved"


def test_metadata_of_those_that_offer_nothing_is_not_read(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.plugin("loud", site.encoders("loud"))
    (site.distribution("vlv-quiet", "") / "entry_points.txt").write_text("[console_scripts]\n")
    read: list[str] = []
    parse = email.message_from_string

    def spy(text: str, *args: Any, **settings: Any) -> Any:
        read.append(text)
        return parse(text, *args, **settings)

    monkeypatch.setattr(email, "message_from_string", spy)
    load_plugins()
    assert any("Name: vlv-loud" in text for text in read)
    assert not any("Name: vlv-quiet" in text for text in read)


def test_two_distributions_may_name_their_plugin_alike(site: Any) -> None:
    for letter in "ab":
        site.module(f"vlv_test_same_{letter}", site.encoders(f"from-{letter}"))
        site.distribution(f"vlv-{letter}", f"same = vlv_test_same_{letter}\n")
    assert {"from-a", "from-b"} <= set(load_plugins().names("encoder"))


def test_a_fork_that_offers_the_same_module_is_a_record(site: Any) -> None:
    site.plugin("origin", site.encoders("o"))
    site.distribution("vlv-origin-fork", "origin = vlv_test_origin\n")
    plugins = load_plugins()
    assert owners(plugins, "encoder", "o") == ["vlv-origin"]
    [record] = [item for item in plugins.broken if item.owner.distribution == "vlv-origin-fork"]
    assert "module that vlv-origin 1.0 (plugin 'origin') registered" in record.reason


def test_an_entry_point_may_name_an_object(site: Any) -> None:
    body = "class Family:\n    @staticmethod\n    @hookimpl\n    def vlv_encoders():\n        "
    body += "return [EncoderSpec(name='inner', build='m:b', summary='s')]\n"
    site.module("vlv_test_object", body)
    site.distribution("vlv-object", "obj = vlv_test_object:Family\n")
    assert load_plugins().get("encoder", "inner").owner.plugin == "obj"


@pytest.mark.parametrize("third_party", [None, False])
def test_third_party_plugins_can_be_turned_off(
    site: Any, monkeypatch: pytest.MonkeyPatch, third_party: bool | None
) -> None:
    site.plugin("off", site.encoders("off") + "raise RuntimeError('imported')\n")
    if third_party is None:
        monkeypatch.setenv("VLV_PLUGINS", "")
    plugins = load_plugins(third_party=third_party)
    assert "off" not in plugins.names("encoder")
    assert "query" in plugins.names("bottleneck")
    assert "vlv-off" in [owner.distribution for owner in plugins.left_out]
    assert "vlv_test_off" not in sys.modules, "a plugin that is turned off is not even imported"


def test_a_call_that_says_so_overrides_the_environment(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.plugin("on", site.encoders("on"))
    monkeypatch.setenv("VLV_PLUGINS", "")
    assert "on" in load_plugins(third_party=True).names("encoder")


@pytest.mark.parametrize("name", ["vlv-blocked", "blocked", "vlv-blocked:blocked"])
def test_block_takes_a_distribution_a_plugin_or_both(site: Any, name: str) -> None:
    site.plugin("blocked", site.encoders("b"))
    site.plugin("kept", site.encoders("k"))
    plugins = load_plugins(block=[name])
    assert "b" not in plugins.names("encoder")
    assert "k" in plugins.names("encoder")


def test_our_own_plugins_can_be_blocked() -> None:
    assert load_plugins(block=["vlv:core"]).names("bottleneck").count("query") == 0


def test_block_that_matches_nothing_says_what_exists(site: Any) -> None:
    site.plugin("there", site.encoders("t"))
    message = r"--block 'vlv-ther' matches no plugin; did you mean 'vlv-there'\?; installed: vlv"
    with pytest.raises(PluginError, match=message):
        load_plugins(block=["vlv-ther"])


def test_nothing_is_remembered_between_calls(site: Any) -> None:
    site.plugin("early", site.encoders("early"))
    assert "late" not in load_plugins().names("encoder")
    site.plugin("late", site.encoders("late"))
    assert {"early", "late"} <= set(load_plugins().names("encoder"))


SETUP = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "vlv-pip"
version = "3.1"
[project.entry-points.vlv]
pip-made = "vlv_pip"
"""


def test_a_distribution_that_pip_installed_is_found_without_torch(
    site: Any, tmp_path: Path
) -> None:
    project, target = tmp_path / "project", tmp_path / "target"
    (project / "vlv_pip").mkdir(parents=True)
    (project / "pyproject.toml").write_text(SETUP)
    source = "from vlv_core import EncoderSpec, hookimpl\n" + site.encoders("from-pip")
    (project / "vlv_pip" / "__init__.py").write_text(source)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    pip += ["--no-index", "--disable-pip-version-check", "--target", str(target), str(project)]
    subprocess.run(pip, check=True, capture_output=True)
    code = (
        "import json, sys; from vlv_core.plugins import load_plugins; p = load_plugins()\n"
        "o = p.get('encoder', 'from-pip').owner\n"
        "print(json.dumps([o.distribution, o.version, o.plugin, 'torch' in sys.modules]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(target)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == ["vlv-pip", "3.1", "pip-made", False]
