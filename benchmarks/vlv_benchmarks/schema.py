"""JSON Schema of `bench.json` and of a line of `samples.jsonl`, made from their dataclasses.

`python -m vlv_benchmarks.schema` writes `bench.schema.json` again; a test holds it to the classes.
"""

import ast
import inspect
import json
import textwrap
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vlv_benchmarks.record import Record
from vlv_benchmarks.turn import Turn

SHIPPED = Path(__file__).with_name("bench.schema.json")
PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}


def schema() -> dict[str, Any]:
    """Of a record; `$defs.Turn` is that of a raw sample's line."""
    definitions: dict[str, Any] = {}
    for cls in (Record, Turn):
        _define(cls, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vlv-bench/1",
        "$ref": "#/$defs/Record",
        "$defs": dict(sorted(definitions.items())),
    }


def text() -> str:
    """What the shipped file holds."""
    return json.dumps(schema(), indent=1) + "\n"


def _define(cls: type[Any], definitions: dict[str, Any]) -> None:
    if cls.__name__ in definitions:
        return
    definitions[cls.__name__] = {}  # claimed before its fields are visited
    hints, said = get_type_hints(cls), _docstrings(cls)
    properties = {
        item.name: _typed(hints[item.name], definitions)
        | ({"description": said[item.name]} if item.name in said else {})
        for item in fields(cls)
    }
    definitions[cls.__name__] = {
        "type": "object",
        "description": " ".join((cls.__doc__ or "").split()),
        "properties": properties,
        "required": [item.name for item in fields(cls) if _required(item)],
        "additionalProperties": False,
    }


def _required(item: Field[Any]) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def _docstrings(cls: type[Any]) -> Mapping[str, str]:
    """The string below each field, by the field's name."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    return {
        named.target.id: " ".join(str(ast.literal_eval(below.value)).split())
        for named, below in pairwise(tree.body)
        if isinstance(named, ast.AnnAssign)
        and isinstance(named.target, ast.Name)
        and isinstance(below, ast.Expr)
    }


def _typed(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, inner = get_origin(kind), get_args(kind)
    if kind in PLAIN:
        return {"type": PLAIN[kind]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, types.UnionType):
        # None is written as absence
        choices = [_typed(each, definitions) for each in inner if each is not type(None)]
        return choices[0] if len(choices) == 1 else {"anyOf": choices}
    if origin is tuple:
        return {"type": "array", "items": _typed(inner[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _typed(inner[1], definitions)}
    _define(kind, definitions)
    return {"$ref": f"#/$defs/{kind.__name__}"}


if __name__ == "__main__":
    SHIPPED.write_text(text(), encoding="utf-8")
