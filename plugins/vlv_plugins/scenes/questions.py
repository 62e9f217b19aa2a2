"""Questions about a scene in English, each with its program and exact answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from vlv_plugins.scenes.facts import relations_of
from vlv_plugins.scenes.philox import halves, key_of, philox
from vlv_plugins.scenes.programs import Call, run
from vlv_plugins.scenes.relations import OPPOSITE
from vlv_plugins.scenes.world import Scene, World

Item = TypeVar("Item")
Wording = tuple[str, Call]
"""A question's text and its program."""


@dataclass(frozen=True)
class Question:
    """One question and its answer in one scene."""

    kind: str
    text: str
    program: Call
    answer: str


class _Draw:
    """Choices that depend on `variant` alone."""

    def __init__(self, variant: int) -> None:
        self._variant = variant
        self._drawn = 0
        self._key = key_of("shapescape-64/questions")

    def among(self, items: Sequence[Item]) -> Item:
        self._drawn += 1
        word = philox((*halves(self._variant), self._drawn, 0), key=self._key)[0]
        return items[word * len(items) >> 32]


def questions(scene: Scene, *, world: World, variant: int) -> list[Question]:
    """One question of each kind that makes sense of the scene; `variant` chooses among them.

    Raises UsageError for a variant outside 0 .. 2**64 - 1.
    """
    draw = _Draw(variant)
    asked: list[Question] = []
    for kind, ask in KINDS.items():
        wording = ask(scene, world, draw)
        if wording is not None:
            text, program = wording
            asked.append(Question(kind, text, program, run(program, scene)))
    return asked


def _kept(**values: str) -> Call:
    call = Call("scene")
    for attribute, value in values.items():
        call = Call("filter", (call, attribute, value))
    return call


def _one(**values: str) -> Call:
    return Call("unique", (_kept(**values),))


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def _exist(scene: Scene, world: World, draw: _Draw) -> Wording:
    # Half of the questions name what is there, so that "yes" is not rare.
    shown = draw.among(scene.objects)
    present = draw.among((True, False))
    colour = shown.colour if present else draw.among(world.colours)
    shape = shown.shape if present else draw.among(world.shapes)
    text = draw.among(("is there a {0} {1}?", "does the picture show any {0} {1}?"))
    return text.format(colour, shape), Call("exist", (_kept(colour=colour, shape=shape),))


def _count(scene: Scene, world: World, draw: _Draw) -> Wording:
    text = draw.among(("how many {} are there?", "what is the number of {}?"))
    if draw.among((True, False)):
        colour = draw.among([item.colour for item in scene.objects] + list(world.colours[:1]))
        return text.format(f"{colour} objects"), Call("count", (_kept(colour=colour),))
    shape = draw.among([item.shape for item in scene.objects] + list(world.shapes[:1]))
    return text.format(_plural(shape)), Call("count", (_kept(shape=shape),))


def _colour(scene: Scene, world: World, draw: _Draw) -> Wording | None:
    shapes = [item.shape for item in scene.objects]
    single = [shape for shape in shapes if shapes.count(shape) == 1]
    if not single:
        return None
    shape = draw.among(single)
    text = draw.among(("what colour is the {}?", "what is the colour of the {}?"))
    return text.format(shape), Call("query", (_one(shape=shape), "colour"))


def _where(scene: Scene, world: World, draw: _Draw) -> Wording | None:
    looks = [(item.colour, item.shape) for item in scene.objects]
    single = [look for look in looks if looks.count(look) == 1]
    if not single:
        return None
    colour, shape = draw.among(single)
    text = draw.among(("where is the {} {}?", "in which part of the picture is the {} {}?"))
    return text.format(colour, shape), Call("query", (_one(colour=colour, shape=shape), "cell"))


def _compare(scene: Scene, world: World, draw: _Draw) -> Wording:
    first = draw.among(scene.objects).shape
    second = draw.among([shape for shape in world.shapes if shape != first])
    more, fewer = draw.among(((first, second), (second, first)))
    text = draw.among(("are there more {} than {}?", "do {} outnumber {}?"))
    counts = Call("count", (_kept(shape=more),)), Call("count", (_kept(shape=fewer),))
    return text.format(_plural(more), _plural(fewer)), Call("greater", counts)


def _relate(scene: Scene, world: World, draw: _Draw) -> Wording | None:
    known = relations_of(scene)
    if not known:
        return None
    (colour, shape), name, (other_colour, other_shape) = draw.among(known)
    asked = draw.among((name, OPPOSITE[name]))
    first, second = (
        _one(colour=colour, shape=shape),
        _one(colour=other_colour, shape=other_shape),
    )
    text = f"is the {colour} {shape} {asked} the {other_colour} {other_shape}?"
    return text, Call("related", (first, asked, second))


KINDS: Mapping[str, Callable[[Scene, World, _Draw], Wording | None]] = MappingProxyType(
    {
        "exist": _exist,
        "count": _count,
        "colour": _colour,
        "where": _where,
        "compare": _compare,
        "relate": _relate,
    }
)
"""Each kind of question and what words it."""
