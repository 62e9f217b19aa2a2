"""Look-up by name: what exists, the nearest match, the way out."""

import sys
from typing import Any

import pytest

from vlv_core.errors import MissingExtra, PluginError
from vlv_core.plugins import load_plugins
from vlv_core.registry import (
    ROLES,
    Broken,
    Owner,
    Plugins,
    Registered,
    available,
    require,
    ways_out,
)
from vlv_core.specs import EncoderSpec, HeadSpec

A = Owner("vlv-a", "1.0", "a")
B = Owner("vlv-b", "2.0", "b")


def encoder(name: str, owner: Owner = A) -> Registered:
    return Registered("encoder", EncoderSpec(name=name, build="m:b", summary="s"), owner)


def test_get_names_and_all() -> None:
    head = Registered("head", HeadSpec(name="words", build="m:b", summary="s"), B)
    plugins = Plugins((head, encoder("zebra"), encoder("apple", B)))
    assert plugins.get("encoder", "zebra").owner == A
    assert plugins.names("encoder") == ["apple", "zebra"]
    assert plugins.names("decoder") == []
    assert [item.spec.name for item in plugins.all()] == ["apple", "zebra", "words"]
    assert plugins.all("head") == [head]


def test_an_unknown_name_says_what_exists_and_the_nearest() -> None:
    plugins = Plugins((encoder("siglip-b16"), encoder("patch-mean")))
    message = (
        r"^no encoder named 'siglip-b1'; did you mean 'siglip-b16'\?; "
        r"installed: patch-mean, siglip-b16$"
    )
    with pytest.raises(PluginError, match=message) as caught:
        plugins.get("encoder", "siglip-b1")
    assert "pip install a package whose plugin offers this encoder" in caught.value.hint
    assert "--plugin FILE" in caught.value.hint


def test_an_unknown_name_lists_broken_plugins_and_those_left_out() -> None:
    plugins = Plugins((), (Broken(A, "OSError: no"),), (B,))
    message = r"installed: none; broken plugins: vlv-a 1\.0 \(plugin 'a'\): OSError: no$"
    with pytest.raises(PluginError, match=message) as caught:
        plugins.get("encoder", "x")
    assert "left out by --block or VLV_PLUGINS: vlv-b 2.0" in caught.value.hint


def test_duplicates_are_listed_and_using_one_names_both_owners_and_the_way_out() -> None:
    plugins = Plugins((encoder("x"), encoder("x", B), encoder("y")))
    assert len(plugins.all("encoder")) == 3
    assert plugins.names("encoder") == ["x", "y"]
    message = r"encoder 'x' is offered by vlv-a 1\.0 \(plugin 'a'\) and by vlv-b 2\.0"
    with pytest.raises(PluginError, match=message) as caught:
        plugins.get("encoder", "x")
    assert caught.value.hint == "leave one of them out: --block vlv-a or --block vlv-b"
    assert plugins.get("encoder", "y")


def test_the_way_out_of_two_plugins_of_one_distribution() -> None:
    second = Owner("vlv-a", "1.0", "second")
    assert ways_out([A, second, B]) == [
        "--block vlv-a:a",
        "--block vlv-a:second",
        "--block vlv-b",
    ]


def test_the_way_out_works(site: Any) -> None:
    for plugin in ("left", "right"):
        site.plugin(plugin, site.encoders("shared"))
    with pytest.raises(PluginError, match="is offered by vlv-left") as caught:
        load_plugins().get("encoder", "shared")
    way = caught.value.hint.split("--block ")[-1]
    assert load_plugins(block=[way]).get("encoder", "shared").owner.distribution == "vlv-left"


def test_an_unknown_role_says_which_exist() -> None:
    with pytest.raises(PluginError, match=r"no role 'encodr'; did you mean 'encoder'\?; roles: "):
        Plugins().get("encodr", "x")
    with pytest.raises(PluginError, match="no role 'x'; roles: " + ", ".join(ROLES)):
        Plugins().names("x")


def spec(*requires: str, extra: str | None = None) -> EncoderSpec:
    return EncoderSpec(name="x", build="m:b", summary="s", requires=requires, extra=extra)


def test_available() -> None:
    assert available(spec()) is None
    assert available(spec("json", "email.message")) is None
    assert available(spec("json", "no_a", extra="big")) == "needs no_a: pip install 'vlv[big]'"
    assert available(spec("no_a", "no_b.c")) == "needs no_a, no_b.c: pip install no_a no_b.c"


def test_available_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    assert available(spec("this")) is None
    assert "this" not in sys.modules


def test_require_is_content_with_what_is_installed() -> None:
    require(spec("json", "email.message"), "encoder 'x'")


def test_require_names_the_absent_libraries_and_their_pip_line() -> None:
    with pytest.raises(MissingExtra, match=r"^encoder 'x': no_a is not installed$") as one:
        require(spec("json", "no_a", extra="big"), "encoder 'x'")
    assert one.value.hint == "pip install 'vlv[big]' supplies it"
    with pytest.raises(MissingExtra, match=r"^encoder 'x': no_a and no_b\.c are not inst") as two:
        require(spec("no_a", "no_b.c"), "encoder 'x'")
    assert two.value.hint == "pip install no_a no_b.c supplies them"
