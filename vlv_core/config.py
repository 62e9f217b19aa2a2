"""Plain data -> frozen dataclasses, strictly, and back.

Every error says where the value stands, what is wrong with it, and what would be right.
"""

import collections.abc
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from vlv_core.errors import ConfigError, nearest

T = TypeVar("T")

REST = {"rest": True}
"""metadata of a field that collects a table's keys that no other field claims"""

_SIMPLE: Mapping[Any, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a table",
    type(None): "nothing",
}


def convert(cls: type[T], data: Mapping[str, Any], where: str) -> T:
    """A dataclass of type `cls` from a table as `tomllib` reads it.

    An integer passes for a float; nothing else passes for another type. `where` starts every
    message, such as "recipe.toml: stage1".

    Raises ConfigError for unknown or missing keys, wrong types, and values that the dataclass
    itself refuses.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected a table, got {_shown(data)}")
    declared: dict[str, Field[Any]] = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]
    hints = _hints(cls)  # type: ignore[arg-type]
    collector = next((name for name, item in declared.items() if item.metadata == REST), None)
    claimed = {key: value for key, value in data.items() if key in declared and key != collector}
    others = {key: value for key, value in data.items() if key not in claimed}
    if others and collector is None:
        key, known = next(iter(others)), ", ".join(declared) or "none"
        raise ConfigError(f"{where}: no key {key!r}{nearest(key, declared)}; known: {known}")
    values = {key: _value(hints[key], item, _below(where, key)) for key, item in claimed.items()}
    if collector is not None:
        values[collector] = others
    _check_complete(declared, values, where)
    try:
        return cls(**values)
    except (ConfigError, ValueError) as error:
        hint = error.hint if isinstance(error, ConfigError) else None
        raise ConfigError(f"{where}: {error}", hint=hint) from error


@cache
def _hints(cls: type) -> dict[str, Any]:
    """Types of a dataclass's fields; a manifest holds one class many times over."""
    return get_type_hints(cls)


def configure(config: type[T] | None, options: Mapping[str, Any], where: str) -> T | None:
    """A component's config from a recipe's options; `config` is what its spec declares.

    Raises ConfigError as `convert` does, and for options to a component that takes none.
    """
    if config is not None:
        return convert(config, options, where)
    if options:
        raise ConfigError(f"{where}: no key {next(iter(options))!r}; it takes no options")
    return None


def to_dict(config: Any) -> dict[str, Any]:
    """The table that `convert` reads back as `config`: tuples become lists, None is left out."""
    table: dict[str, Any] = {}
    for item in fields(config):
        value = getattr(config, item.name)
        if item.metadata == REST:
            table.update(value)
        elif value is not None:
            table[item.name] = _plain(value)
    return table


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_dict(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _check_complete(
    declared: Mapping[str, Field[Any]], values: Mapping[str, Any], where: str
) -> None:
    missing = [
        name
        for name, item in declared.items()
        if name not in values and item.default is MISSING and item.default_factory is MISSING
    ]
    if missing:
        keys = ", ".join(map(repr, missing))
        raise ConfigError(f"{where}: {'keys' if len(missing) > 1 else 'key'} {keys} missing")


def _value(kind: Any, value: Any, where: str) -> Any:
    """`value` as the annotation `kind` wants it."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _union(kind, value, where)
    if origin in (tuple, list) and isinstance(value, list | tuple):
        return _items(kind, value, where)
    if origin in (dict, collections.abc.Mapping) and isinstance(value, Mapping):
        inner = get_args(kind)[1]
        return {key: _value(inner, item, _below(where, key)) for key, item in value.items()}
    if is_dataclass(kind):
        return convert(cast(type[Any], kind), value, where)
    if not _is_a(kind, value):
        close = nearest(value, get_args(kind)) if origin is Literal and type(value) is str else ""
        raise ConfigError(f"{where}: expected {_named(kind)}, got {_shown(value)}{close}")
    return float(value) if kind is float else value


def _is_a(kind: Any, value: Any) -> bool:
    """Whether a value passes for a plain type; true and false are no numbers, nor is nan."""
    if kind is float:
        return type(value) in (int, float) and not math.isnan(value)
    if get_origin(kind) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(kind))
    return kind is Any or type(value) is kind


def _union(kind: Any, value: Any, where: str) -> Any:
    errors = []
    for choice in get_args(kind):
        try:
            return _value(choice, value, where)
        except ConfigError as error:
            errors.append(error)
    # with one real choice (`X | None`) its own message says more than the list of choices
    real = [choice for choice in get_args(kind) if choice is not type(None)]
    if len(real) == 1:
        raise errors[get_args(kind).index(real[0])]
    raise ConfigError(f"{where}: expected {_named(kind)}, got {_shown(value)}")


def _items(kind: Any, value: Sequence[Any], where: str) -> Any:
    container, kinds = get_origin(kind), get_args(kind)
    if container is list or kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise ConfigError(f"{where}: expected {_named(kind)}, got {_shown(value)}")
    pairs = zip(kinds, value, strict=True)
    return container(_value(inner, item, f"{where}[{i}]") for i, (inner, item) in enumerate(pairs))


def _below(where: str, key: str) -> str:
    """The place of a key: "recipe.toml" -> "recipe.toml: seed" -> "recipe.toml: stage1.lr"."""
    return f"{where}.{key}" if ": " in where else f"{where}: {key}"


def _named(kind: Any) -> str:
    """An annotation in a user's words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(repr(choice) for choice in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(_named(choice) for choice in inner)
    if origin is tuple and inner[-1] is not Ellipsis:
        return f"a list of {len(inner)} ({', '.join(map(_named, inner))})"
    if origin in (tuple, list):
        return f"a list, each {_named(inner[0])}"
    if origin is not None or is_dataclass(kind):
        return "a table"
    return _SIMPLE.get(kind, getattr(kind, "__name__", str(kind)))


def _shown(value: Any) -> str:
    """A wrong value in a user's words."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return f"{value!r} ({_SIMPLE.get(type(value), type(value).__name__)})"
