"""`--set a.b=c`: changes to a recipe from the command line."""

import copy
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from vlv_core.errors import ConfigError

Overrides = Sequence[tuple[tuple[str, ...], Any]]
"""(path of keys, value), later ones win"""

_PATH = re.compile(r"[\w-]+(\.[\w-]+)*")


def parse_overrides(texts: Sequence[str]) -> Overrides:
    """`["stage1.lr=1e-4"]` -> `[(("stage1", "lr"), 0.0001)]`.

    A value is TOML where it parses as such (numbers, true, "text", [lists], {tables}), and bare
    text otherwise. Raises ConfigError for what is neither.
    """
    return [_parsed(text) for text in texts]


def apply_overrides(data: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    """A copy of `data` with the overrides in it; tables that it lacks are made.

    Raises ConfigError where a path leads through a value that is not a table.
    """
    changed = copy.deepcopy(dict(data))
    for path, value in overrides:
        table = changed
        for depth, key in enumerate(path[:-1], start=1):
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise ConfigError(
                    f"--set {'.'.join(path)}: {'.'.join(path[:depth])!r} is not a table"
                )
        table[path[-1]] = copy.deepcopy(value)
    return changed


def _parsed(text: str) -> tuple[tuple[str, ...], Any]:
    path, equals, value = text.partition("=")
    path, value = path.strip(), value.strip()
    if not equals or not _PATH.fullmatch(path):
        raise ConfigError(
            f"--set {text!r} is not of the form KEY=VALUE", hint="for example: --set stage1.lr=1e-4"
        )
    return tuple(path.split(".")), _value(value, path)


def _value(text: str, path: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError as error:
        if text[:1] in ('"', "'", "[", "{"):
            raise ConfigError(f"--set {path}: {text!r} is not TOML: {error}") from None
        return text
    # dates and times are TOML, but no option is one: they are names that look alike
    is_plain = isinstance(table["value"], bool | int | float | str | list | dict)
    return table["value"] if is_plain and table.keys() == {"value"} else text
