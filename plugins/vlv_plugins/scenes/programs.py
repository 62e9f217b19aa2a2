"""Questions as functional programs: nested calls that a scene answers exactly.

`count(filter(scene(), colour, red))` keeps the red objects and counts them. The form is that of
CLEVR (Johnson et al., 2017).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from vlv_core.errors import UsageError, nearest
from vlv_plugins.scenes.relations import relation
from vlv_plugins.scenes.world import Object, Scene


@dataclass(frozen=True)
class Call:
    """A function applied to what other calls return, and to words."""

    function: str
    arguments: "tuple[Call | str, ...]" = ()

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(str, self.arguments))})"


def run(program: Call, scene: Scene) -> str:
    """The answer of a program: "yes", "no", a number, or a word of the vocabulary.

    Raises UsageError for an unknown function, and where `unique` finds not exactly one object.
    """
    return str(_value(program, scene))


def _value(call: Call | str, scene: Scene) -> Any:
    if isinstance(call, str):
        return call
    if call.function == "scene":
        return scene.objects
    if call.function not in FUNCTIONS:
        raise UsageError(
            f"no function named {call.function!r}{nearest(call.function, FUNCTIONS)}; "
            f"functions: scene, {', '.join(FUNCTIONS)}"
        )
    return FUNCTIONS[call.function](*(_value(argument, scene) for argument in call.arguments))


def _filter(objects: tuple[Object, ...], attribute: str, value: str) -> tuple[Object, ...]:
    return tuple(item for item in objects if getattr(item, attribute) == value)


def _unique(objects: tuple[Object, ...]) -> Object:
    if len(objects) != 1:
        raise UsageError(f"the question supposes one object, and the scene has {len(objects)}")
    return objects[0]


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "filter": _filter,
        "unique": _unique,
        "exist": lambda objects: _yes(bool(objects)),
        "count": len,
        "query": getattr,
        "greater": lambda first, second: _yes(first > second),
        "related": lambda first, name, second: _yes(relation(first, second) == name),
    }
)
"""What programs are made of, besides `scene()`."""
