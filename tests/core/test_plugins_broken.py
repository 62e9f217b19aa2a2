"""Broken plugins become records with reasons, and never hide a good one."""

import logging
import re
from typing import Any

import pytest

from vlv_core.plugins import load_plugins
from vlv_core.registry import Broken, Plugins

CASES = {
    "import error": (
        "import no_such_library",
        "cannot be imported: ModuleNotFoundError: No module",
    ),
    "syntax error": ("def broken(:", "cannot be imported: SyntaxError"),
    "exits": ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
    "no hook": ("x = 1", "implements no hook; is its function under @hookimpl?"),
    "no marker": ("def vlv_encoders():\n    return []", "implements no hook"),
    "misspelt": (
        "@hookimpl\ndef vlv_encoder():\n    return []",
        "no hook is called 'vlv_encoder'; did you mean 'vlv_encoders'?",
    ),
    "unlike any hook": (
        "@hookimpl\ndef train_me():\n    return []",
        "no hook is called 'train_me'; hooks: vlv_encoders, vlv_bottlenecks",
    ),
    "unknown argument": (
        "@hookimpl\ndef vlv_encoders(config):\n    return []",
        "Argument(s) {'config'} are declared in the hookimpl but can not be found",
    ),
    "raises": (
        "@hookimpl\ndef vlv_encoders():\n    raise OSError('disk\\non fire')",
        "hook vlv_encoders: OSError: disk on fire",
    ),
    "raises half way": (
        "@hookimpl\ndef vlv_encoders():\n"
        "    yield EncoderSpec(name='x', build='m:b', summary='s')\n    1 / 0",
        "hook vlv_encoders: ZeroDivisionError: division by zero",
    ),
    "returns None": (
        "@hookimpl\ndef vlv_encoders():\n    pass",
        "hook vlv_encoders: TypeError: it returned NoneType; an iterable of EncoderSpec is due",
    ),
    "returns one spec": (
        "@hookimpl\ndef vlv_encoders():\n"
        "    return EncoderSpec(name='x', build='m:b', summary='s')",
        "it returned EncoderSpec; an iterable of EncoderSpec is due",
    ),
    "returns text": (
        "@hookimpl\ndef vlv_encoders():\n    return 'encoder'",
        "it returned str; an iterable of EncoderSpec is due",
    ),
    "another role's spec": (
        "@hookimpl\ndef vlv_encoders():\n    return [HeadSpec(name='x', build='m:b', summary='s')]",
        "hook vlv_encoders: returned a HeadSpec; EncoderSpec is due",
    ),
}

FIELDS = {
    "name": ("name='My_Encoder'", "name 'My_Encoder' is not kebab-case"),
    "name type": ("name=3", "name 3 is not kebab-case"),
    "summary": ("summary=''", "'x': summary must be one line, got ''"),
    "summary lines": ("summary='a\\nb'", "summary must be one line"),
    "build": ("build='module'", "build='module' is not of the form 'package.module:attribute'"),
    "pretrained": ("pretrained='source'", "pretrained='source' is not of the form"),
    "requires": ("requires='torch'", "requires must be a tuple of import names, got 'torch'"),
    "config": ("config=dict", "config must be a frozen dataclass type, got <class 'dict'>"),
    "config instance": ("config=View(3)", "config must be a frozen dataclass type, got View"),
}


def record(plugins: Plugins, distribution: str) -> Broken:
    [found] = [item for item in plugins.broken if item.owner.distribution == distribution]
    return found


@pytest.mark.parametrize("case", CASES)
def test_each_way_to_break_is_a_record_beside_a_good_plugin(site: Any, case: str) -> None:
    source, reason = CASES[case]
    site.plugin("bad", source + "\n")
    site.plugin("good", site.encoders("good"))
    plugins = load_plugins()
    assert reason in record(plugins, "vlv-bad").reason
    assert plugins.get("encoder", "good").owner.distribution == "vlv-good"
    assert "x" not in plugins.names("encoder")


@pytest.mark.parametrize("case", FIELDS)
def test_a_bad_spec_leaves_its_neighbours(site: Any, case: str) -> None:
    argument, reason = FIELDS[case]
    fields = {"name": "name='x'", "build": "build='m:b'", "summary": "summary='s'"}
    fields[argument.partition("=")[0]] = argument
    bad = f"EncoderSpec({', '.join(fields.values())})"
    good = "EncoderSpec(name='neighbour', build='m:b', summary='s')"
    site.plugin("mixed", f"@hookimpl\ndef vlv_encoders():\n    return [{bad}, {good}]\n")
    plugins = load_plugins()
    assert reason in record(plugins, "vlv-mixed").reason
    assert plugins.get("encoder", "neighbour")


@pytest.mark.parametrize("name", ["mini", "siglip-b16", "words-2.5-0.5b"])
def test_names_that_are_kebab_case(site: Any, name: str) -> None:
    site.plugin("names", site.encoders(name))
    assert load_plugins().get("encoder", name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "a--b", "A", "a b", "a.b", "ü"])
def test_names_that_are_not(site: Any, name: str) -> None:
    site.plugin("names", site.encoders(name))
    assert "is not kebab-case" in record(load_plugins(), "vlv-names").reason


def test_a_mutable_config_is_refused(site: Any) -> None:
    source = "import dataclasses\n@dataclasses.dataclass\nclass C:\n    a: int = 1\n"
    spec = "EncoderSpec(name='x', build='m:b', summary='s', config=C)"
    site.plugin("config", f"{source}\n@hookimpl\ndef vlv_encoders():\n    return [{spec}]\n")
    reason = record(load_plugins(), "vlv-config").reason
    assert re.search(r"config must be a frozen dataclass type, got <class '.*\.C'>", reason)


def test_a_misspelt_hook_leaves_the_plugins_other_hooks(site: Any) -> None:
    site.plugin("half", site.encoders("kept") + "@hookimpl\ndef vlv_haeds():\n    return []\n")
    plugins = load_plugins()
    assert "did you mean 'vlv_heads'?" in record(plugins, "vlv-half").reason
    assert plugins.get("encoder", "kept")


def test_an_optional_unknown_hook_is_no_fault(site: Any) -> None:
    later = "@hookimpl(optionalhook=True)\ndef vlv_future():\n    return []\n"
    site.plugin("later", site.encoders("now") + later)
    plugins = load_plugins()
    assert plugins.get("encoder", "now")
    assert not [item for item in plugins.broken if item.owner.distribution == "vlv-later"]


def test_one_name_twice_from_one_plugin_keeps_the_first(site: Any) -> None:
    site.plugin("echo", site.encoders("echo", "echo"))
    plugins = load_plugins()
    assert plugins.get("encoder", "echo")
    assert "offers encoder 'echo' twice" in record(plugins, "vlv-echo").reason


@pytest.mark.parametrize(
    ("entry_points", "reason"),
    [
        ("gone = vlv_test_gone\n", "cannot be imported: ModuleNotFoundError"),
        ("lost = vlv_test_here:missing\n", "cannot be imported: AttributeError"),
        ("none = vlv_test_here:nothing\n", "implements no hook"),
    ],
)
def test_an_entry_point_that_leads_nowhere(site: Any, entry_points: str, reason: str) -> None:
    site.module("vlv_test_here", "nothing = None\n")
    site.distribution("vlv-nowhere", entry_points)
    assert reason in record(load_plugins(), "vlv-nowhere").reason


def test_damaged_metadata_hides_nobody(site: Any) -> None:
    site.plugin("good", site.encoders("good"))
    site.distribution("vlv-nameless", "x = vlv_test_good\n", metadata="")
    folder = site.distribution("vlv-garbled", "")
    (folder / "entry_points.txt").write_bytes(b"[vlv]\n\xff\xfe = \n")
    plugins = load_plugins()
    assert plugins.get("encoder", "good").owner.distribution == "vlv-good"
    assert "its metadata cannot be read" in record(plugins, "vlv-garbled").reason


def test_the_traceback_is_kept_for_those_who_ask(
    site: Any, caplog: pytest.LogCaptureFixture
) -> None:
    site.plugin("bad", "raise RuntimeError('look here')\n")
    with caplog.at_level(logging.DEBUG, logger="vlv_core.plugins"):
        load_plugins()
    [entry] = [item for item in caplog.records if "vlv-bad" in item.getMessage()]
    assert entry.exc_info is not None and "look here" in caplog.text
