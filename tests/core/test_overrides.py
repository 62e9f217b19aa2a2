"""`--set a.b=c`."""

from typing import Any

import pytest

from vlv_core.errors import ConfigError
from vlv_core.overrides import apply_overrides, parse_overrides


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("stage1.lr=1e-4", ("stage1", "lr"), 0.0001),
        ("seed=3", ("seed",), 3),
        ("a=true", ("a",), True),
        ("a=1_000", ("a",), 1000),
        ('a="quoted"', ("a",), "quoted"),
        ("a=bare", ("a",), "bare"),
        ("a=two words", ("a",), "two words"),
        ("a=x=y", ("a",), "x=y"),
        ("a=", ("a",), ""),
        ("a=/data/my pictures", ("a",), "/data/my pictures"),
        ("a=1.2.3", ("a",), "1.2.3"),
        ("a=2024-01-01", ("a",), "2024-01-01"),
        ("a=12:30:00", ("a",), "12:30:00"),
        ("a=1\nb = 2", ("a",), "1\nb = 2"),
        ("a=['x', 'y']", ("a",), ["x", "y"]),
        ("stage1.data={dataset = 'folder'}", ("stage1", "data"), {"dataset": "folder"}),
        (" a . b = 3 ".replace(" . ", "."), ("a", "b"), 3),
        ("my-key.sub_key=1", ("my-key", "sub_key"), 1),
    ],
)
def test_values_are_toml_or_bare_text(text: str, path: tuple[str, ...], value: Any) -> None:
    [(parsed_path, parsed)] = parse_overrides([text])
    assert parsed_path == path
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize("text", ["", "a", "=3", "a..b=3", ".a=3", "a b=3", "a.=1"])
def test_what_is_not_an_override(text: str) -> None:
    with pytest.raises(ConfigError, match="is not of the form KEY=VALUE") as caught:
        parse_overrides([text])
    assert "--set stage1.lr=1e-4" in caught.value.hint


@pytest.mark.parametrize("value", ["[1, 2", '"open', "{a = }", "'x"])
def test_a_value_that_starts_as_toml_must_be_toml(value: str) -> None:
    with pytest.raises(ConfigError, match=r"--set a\.b: .* is not TOML"):
        parse_overrides([f"a.b={value}"])


def test_overrides_go_in_and_the_last_wins() -> None:
    data = {"seed": 1, "stage1": {"lr": 1.0, "steps": 5}}
    changed = apply_overrides(data, parse_overrides(["stage1.lr=2.0", "new.deep.key=x", "seed=7"]))
    assert changed == {"seed": 7, "stage1": {"lr": 2.0, "steps": 5}, "new": {"deep": {"key": "x"}}}
    assert data == {"seed": 1, "stage1": {"lr": 1.0, "steps": 5}}, "the original stays"
    twice = apply_overrides(data, parse_overrides(["seed=2", "seed=3"]))
    assert twice["seed"] == 3


def test_one_override_does_not_leak_into_another_application() -> None:
    overrides = parse_overrides(["a={b = 1}", "a.c=2"])
    assert apply_overrides({}, overrides) == {"a": {"b": 1, "c": 2}}
    assert apply_overrides({}, overrides[:1]) == {"a": {"b": 1}}


@pytest.mark.parametrize(("text", "at"), [("seed.x=1", "seed"), ("a.b.c.d=1", "a.b")])
def test_a_path_through_a_value_is_refused(text: str, at: str) -> None:
    with pytest.raises(ConfigError, match=rf"--set [\w.]+: '{at}' is not a table"):
        apply_overrides({"seed": 1, "a": {"b": 2}}, parse_overrides([text]))
