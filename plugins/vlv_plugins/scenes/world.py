"""What a world may hold, and what one of its scenes is.

A scene is the only truth: pictures, captions, facts, questions and scores all derive from it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType

from vlv_plugins.scenes import vocabulary

MARGIN = 3
"""Pixels between an object's centre and the border of the cell that it is named after."""

MIN_DELTA_E = 40.0
"""Least CIELAB difference between an object and every colour of the background."""

MIN_VISIBLE = 0.6
"""Least share of an object's silhouette that later objects leave uncovered."""


@dataclass(frozen=True)
class Object:
    """One shape. All but `x`, `y` and `angle` can be captioned."""

    shape: str
    colour: str
    size: str
    fill: str
    cell: str
    x: float
    """Centre, pixels from the left; a multiple of 1/16."""
    y: float
    """Centre, pixels from the top; a multiple of 1/16."""
    angle: int
    """Degrees clockwise from upright."""


@dataclass(frozen=True)
class Background:
    """What lies behind the objects; one colour if plain, else two."""

    kind: str
    colours: tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """A background and its objects in drawing order: later objects cover earlier ones."""

    background: Background
    objects: tuple[Object, ...]

    def to_json(self) -> str:
        """One line of JSON that `from_json` turns back into an equal scene."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Scene":
        """The scene that `to_json` wrote."""
        data = json.loads(text)
        background = data["background"]
        return cls(
            background=Background(kind=background["kind"], colours=tuple(background["colours"])),
            objects=tuple(Object(**values) for values in data["objects"]),
        )


Pair = tuple[tuple[str, str], tuple[str, str]]
"""Two attributes of one object, as (attribute, value) each."""


@dataclass(frozen=True, eq=False)
class World:
    """A choice from the vocabulary, and what training never sees. Worlds compare by identity."""

    name: str
    version: int
    """Raised when the same (split, index) would no longer give the same scene."""
    backgrounds: tuple[str, ...]
    background_colours: tuple[str, ...]
    shapes: tuple[str, ...]
    colours: tuple[str, ...]
    sizes: Mapping[str, float]
    """Name to radius in pixels."""
    fills: tuple[str, ...]
    solid_sizes: tuple[str, ...]
    """Sizes too small for a pattern that can be told from another: always solid."""
    count_weights: tuple[float, ...]
    """Relative frequency of 1, 2, ... objects outside the `count` split."""
    overlaps: bool
    """Whether objects may cover each other in part."""
    held_out: tuple[Pair, ...]
    """Attribute pairs that no caption of the training split mentions."""
    withheld_count: int | None
    """A number of objects seen only in the `count` split; None: twins (shape and colour) are."""
    withheld_relation: tuple[str, str, str] | None = field(default=None)
    """(shape, relation, shape), seen only in the `relation` split."""

    @property
    def max_objects(self) -> int:
        """The most objects in a scene of any split."""
        return max(len(self.count_weights), self.withheld_count or 0)


_S = World(
    name="S",
    version=1,
    backgrounds=("plain",),
    background_colours=("white", "grey", "charcoal", "black"),
    shapes=("circle", "square", "triangle", "star", "cross", "crescent"),
    colours=("red", "yellow", "green", "cyan", "blue", "pink"),
    sizes=MappingProxyType({name: vocabulary.SIZE_RADII[name] for name in ("medium", "large")}),
    fills=("solid",),
    solid_sizes=(),
    count_weights=(0.4, 0.6),
    overlaps=False,
    held_out=(
        (("colour", "blue"), ("shape", "triangle")),
        (("colour", "red"), ("shape", "star")),
        (("colour", "green"), ("shape", "crescent")),
    ),
    withheld_count=None,
)

_M = World(
    name="M",
    version=1,
    backgrounds=vocabulary.BACKGROUND_KINDS,
    background_colours=vocabulary.BACKGROUND_COLOURS,
    shapes=vocabulary.SHAPES,
    colours=vocabulary.COLOURS,
    sizes=vocabulary.SIZE_RADII,
    fills=vocabulary.FILLS,
    solid_sizes=("small",),
    count_weights=(0.2, 0.3, 0.3, 0.2),
    overlaps=True,
    held_out=(
        (("colour", "purple"), ("shape", "triangle")),
        (("fill", "striped"), ("shape", "heart")),
        (("colour", "lime"), ("shape", "arrow")),
        (("size", "small"), ("shape", "star")),
    ),
    withheld_count=5,
    withheld_relation=("circle", "above", "square"),
)

WORLDS: Mapping[str, World] = MappingProxyType({world.name: world for world in (_S, _M)})
"""The worlds by name: S for two CPU cores, M for one data-centre GPU."""
