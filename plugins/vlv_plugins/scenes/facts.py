"""What a caption states about a scene: the meeting point of captions, parsing and scoring."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from vlv_plugins.scenes.relations import relation
from vlv_plugins.scenes.vocabulary import BACKGROUND_COLOURS, CELLS, UNORDERED_KINDS
from vlv_plugins.scenes.world import Background, Object, Scene

Look = tuple[str, str]
"""(colour, shape): how a relation names an object."""


class ObjectFacts(NamedTuple):
    """One object as a bound tuple; None where the register does not say."""

    shape: str
    colour: str
    size: str | None = None
    fill: str | None = None
    cell: str | None = None


class RelationFacts(NamedTuple):
    """`subject` lies `relation` `other`; both looks are unique in the scene."""

    subject: Look
    relation: str
    other: Look


@dataclass(frozen=True)
class Facts:
    """Everything stated. Build it by `facts_of`, so that equal statements compare equal."""

    objects: tuple[ObjectFacts, ...]
    background: Background | None = None
    relations: tuple[RelationFacts, ...] = ()


def facts_of(
    objects: Iterable[ObjectFacts],
    *,
    background: Background | None = None,
    relations: tuple[RelationFacts, ...] = (),
) -> Facts:
    """Facts in their one canonical order, so that equal statements are equal values."""
    named = None if background is None else canonical_background(background)
    return Facts(tuple(sorted(objects, key=_reading_order)), named, relations)


def _reading_order(item: ObjectFacts) -> tuple[int, tuple[str, ...]]:
    return CELLS.index(item.cell) if item.cell else 0, tuple(value or "" for value in item)


def canonical_background(background: Background) -> Background:
    """The background as captions name it: colours that play the same part in vocabulary order."""
    if background.kind not in UNORDERED_KINDS:
        return background
    ordered = sorted(background.colours, key=BACKGROUND_COLOURS.index)
    return Background(background.kind, tuple(ordered))


def bound(item: Object) -> ObjectFacts:
    """All of an object that can be captioned."""
    return ObjectFacts(item.shape, item.colour, item.size, item.fill, item.cell)


def relations_of(scene: Scene) -> list[RelationFacts]:
    """Every clear relation between objects whose looks are unique, in reading order."""
    ordered = sorted(scene.objects, key=lambda item: CELLS.index(item.cell))
    looks = Counter((item.colour, item.shape) for item in ordered)
    named = [item for item in ordered if looks[item.colour, item.shape] == 1]
    found: list[RelationFacts] = []
    for subject in named:
        for other in named:
            name = None if subject is other else relation(subject, other)
            if name:
                looks_of = (subject.colour, subject.shape), (other.colour, other.shape)
                found.append(RelationFacts(looks_of[0], name, looks_of[1]))
    return found
