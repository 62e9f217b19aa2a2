"""Tables -> frozen dataclasses: what passes, and what each refusal says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlv_core.config import REST, configure, convert, to_dict
from vlv_core.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    width: int
    gain: float = 1.0

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"width is {self.width}, but must be at least 1", hint="raise it")


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    count: int = 0
    rate: float = 0.5
    on: bool = False
    kind: Literal["cosine", "linear"] = "cosine"
    level: Literal[1, 2] = 1
    note: str | None = None
    either: int | str = 0
    several: tuple[int, ...] = ()
    pair: tuple[float, float] = (0.0, 1.0)
    names: list[str] = field(default_factory=list)
    inner: Inner | None = None
    inners: tuple[Inner, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)
    mapped: Mapping[str, float] = field(default_factory=dict)
    anything: Any = None


@dataclass(frozen=True)
class Open:
    plugin: str
    options: dict[str, Any] = field(default_factory=dict, metadata=REST)


def outer(**changes: Any) -> Outer:
    return convert(Outer, {"name": "x", **changes}, "r.toml")


def test_every_kind_of_value() -> None:
    made = outer(
        count=3,
        rate=2,
        on=True,
        kind="linear",
        level=2,
        note="n",
        either="text",
        several=[1, 2],
        pair=[0.9, 1],
        names=["a"],
        inner={"width": 4},
        inners=[{"width": 1, "gain": 2}, {"width": 2}],
        sizes={"a": 1},
        mapped={"b": 2},
        anything={"free": ["form"]},
    )
    assert (made.count, made.on, made.kind, made.level, made.note) == (3, True, "linear", 2, "n")
    assert made.rate == 2.0 and type(made.rate) is float, "an integer passes for a float"
    assert made.several == (1, 2) and made.names == ["a"]
    assert made.pair == (0.9, 1.0) and type(made.pair[1]) is float
    assert made.inner == Inner(4)
    assert made.inners == (Inner(1, 2.0), Inner(2))
    assert made.sizes == {"a": 1} and made.mapped == {"b": 2.0}
    assert made.anything == {"free": ["form"]}


def test_defaults_stand() -> None:
    assert outer() == Outer(name="x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": True}, r"^r\.toml: count: expected an integer, got True \(true or false\)$"),
        ({"count": 1.0}, r"count: expected an integer, got 1\.0 \(a number\)"),
        ({"rate": "fast"}, r"rate: expected a number, got 'fast' \(text\)"),
        ({"rate": True}, r"rate: expected a number, got True"),
        ({"rate": float("nan")}, r"rate: expected a number, got nan"),
        ({"on": 1}, r"on: expected true or false, got 1 \(an integer\)"),
        ({"name": 3}, r"name: expected text, got 3"),
        ({"kind": "cosin"}, r"expected 'cosine' or 'linear', got 'cosin' .*mean 'cosine'\?"),
        ({"level": True}, r"level: expected 1 or 2, got True"),
        ({"level": 1.0}, r"level: expected 1 or 2, got 1\.0"),
        ({"note": 1}, r"note: expected text, got 1"),
        ({"either": 1.5}, r"either: expected an integer or text, got 1\.5"),
        ({"several": 3}, r"several: expected a list, each an integer, got 3"),
        ({"several": [1, "b"]}, r"several\[1\]: expected an integer, got 'b'"),
        ({"several": "ab"}, r"several: expected a list, each an integer, got 'ab'"),
        ({"pair": [1.0]}, r"pair: expected a list of 2 \(a number, a number\), got a list of 1"),
        ({"names": {"a": 1}}, r"names: expected a list, each text, got a table"),
        ({"inner": 3}, r"inner: expected a table, got 3"),
        ({"inner": {}}, r"inner: key 'width' missing"),
        ({"inner": {"widht": 3}}, r"r\.toml: inner: no key 'widht'; did you mean 'width'\?"),
        ({"inner": {"width": "4"}}, r"^r\.toml: inner\.width: expected an integer, got '4'"),
        ({"inners": [{"width": 1}, {"width": 1.5}]}, r"inners\[1\]\.width: expected an integer"),
        ({"sizes": {"a": "b"}}, r"sizes\.a: expected an integer, got 'b'"),
        ({"sizes": 3}, r"sizes: expected a table, got 3"),
        ({"mapped": []}, r"mapped: expected a table, got a list of 0"),
        ({"inner": {"width": 0}}, r"^r\.toml: inner: width is 0, but must be at least 1$"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        outer(**changes)


def test_an_unknown_key_names_the_nearest_and_all() -> None:
    message = r"^r\.toml: no key 'coutn'; did you mean 'count'\?; known: name, count, rate, "
    with pytest.raises(ConfigError, match=message):
        outer(coutn=3)


def test_all_missing_keys_are_named_at_once() -> None:
    @dataclass(frozen=True)
    class Two:
        first: int
        second: int

    with pytest.raises(ConfigError, match=r"^here: keys 'first', 'second' missing$"):
        convert(Two, {}, "here")


def test_the_dataclass_keeps_its_hint_and_plain_value_errors_count() -> None:
    with pytest.raises(ConfigError, match="width is 0") as caught:
        convert(Inner, {"width": 0}, "here")
    assert caught.value.hint == "raise it"

    @dataclass(frozen=True)
    class Plain:
        a: int

        def __post_init__(self) -> None:
            raise ValueError("a is odd")

    with pytest.raises(ConfigError, match=r"^here: a is odd$"):
        convert(Plain, {"a": 1}, "here")


def test_a_table_is_due() -> None:
    with pytest.raises(ConfigError, match=r"^here: expected a table, got 3 \(an integer\)$"):
        convert(Inner, 3, "here")  # type: ignore[arg-type]


def test_the_rest_is_collected_and_given_back() -> None:
    table = {"plugin": "p", "depth": 3, "options": {"deep": True}}
    made = convert(Open, table, "here")
    assert made == Open("p", {"depth": 3, "options": {"deep": True}})
    assert to_dict(made) == table


def test_configure() -> None:
    assert configure(Inner, {"width": 3}, "encoder") == Inner(3)
    assert configure(None, {}, "encoder") is None
    with pytest.raises(ConfigError, match=r"^encoder: no key 'width'; it takes no options$"):
        configure(None, {"width": 3}, "encoder")


def test_to_dict_is_what_toml_can_hold() -> None:
    made = outer(inners=[{"width": 1}], pair=[0, 1], inner={"width": 2})
    table = to_dict(made)
    assert table["inners"] == [{"width": 1, "gain": 1.0}]
    assert table["pair"] == [0.0, 1.0]
    assert "note" not in table, "TOML has no null"
    assert convert(Outer, table, "again") == made


numbers = st.floats(allow_nan=False)
inners = st.builds(Inner, st.integers(1), numbers)
outers = st.builds(
    Outer,
    name=st.text(),
    count=st.integers(),
    rate=numbers,
    on=st.booleans(),
    kind=st.sampled_from(["cosine", "linear"]),
    note=st.none() | st.text(),
    either=st.integers() | st.text(),
    several=st.lists(st.integers()).map(tuple),
    pair=st.tuples(numbers, numbers),
    inner=st.none() | inners,
    inners=st.lists(inners, max_size=2).map(tuple),
    sizes=st.dictionaries(st.text(), st.integers(), max_size=2),
)


@settings(max_examples=50, deadline=None)
@given(outers)
def test_round_trip(made: Outer) -> None:
    assert convert(Outer, to_dict(made), "again") == made
