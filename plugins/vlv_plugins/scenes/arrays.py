"""Many scenes as a structure of arrays: what sampling and rendering work on.

Shape legend: B scenes, M object slots. Codes are indices into the tuples of `vocabulary`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlv_plugins.scenes.vocabulary import (
    BACKGROUND_COLOURS,
    BACKGROUND_KINDS,
    CANVAS,
    CELLS,
    COLOURS,
    FILLS,
    SHAPES,
    SIZES,
)
from vlv_plugins.scenes.world import Background, Object, Scene

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SceneArrays:
    """B scenes. Slots from `count` on hold nothing that means anything."""

    kind: Ints
    """Background kind, (B,)."""
    colours: Ints
    """Background colours, (B, 2); a plain background has its colour twice."""
    count: Ints
    """Number of objects, (B,)."""
    shape: Ints
    colour: Ints
    size: Ints
    fill: Ints
    cell: Ints
    """Object codes, (B, M) each."""
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    """Object centres in pixels, (B, M) each."""
    angle: Ints
    """Degrees clockwise, (B, M)."""

    def __len__(self) -> int:
        return len(self.count)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which slots hold an object, (B, M)."""
        return np.arange(self.shape.shape[1]) < self.count[:, None]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "SceneArrays":
        """The scenes at `rows`, an index or a mask over B."""
        return SceneArrays(*(getattr(self, item.name)[rows] for item in fields(self)))

    @staticmethod
    def joined(parts: Sequence["SceneArrays"]) -> "SceneArrays":
        """The scenes of all parts, in order; every part has the same M."""
        names = [item.name for item in fields(SceneArrays)]
        return SceneArrays(*(np.concatenate([getattr(p, n) for p in parts]) for n in names))

    def mirrored(self) -> "SceneArrays":
        """The scenes as a mirror shows them; every shape is its own mirror image."""
        # The canvas is an even number of tiles wide, so a mirror exchanges a checker's colours.
        exchanged = (self.kind == BACKGROUND_KINDS.index("checker"))[:, None]
        row, column = self.cell // 3, self.cell % 3
        return SceneArrays(
            kind=self.kind,
            colours=np.where(exchanged, self.colours[:, ::-1], self.colours),
            count=self.count,
            shape=self.shape,
            colour=self.colour,
            size=self.size,
            fill=self.fill,
            cell=3 * row + 2 - column,
            x=CANVAS - self.x,
            y=self.y,
            angle=-self.angle,
        )

    def scenes(self) -> list[Scene]:
        """The same scenes as objects, in order."""
        return [
            Scene(
                _background(kind, colours), tuple(map(_object, zip(*columns, strict=True)))[:count]
            )
            for kind, colours, count, *columns in zip(
                *(getattr(self, item.name).tolist() for item in fields(self)), strict=True
            )
        ]

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> "SceneArrays":
        """Arrays of any scenes; M is the largest number of objects among them, at least 1."""
        slots = max([1, *(len(scene.objects) for scene in scenes)])
        codes = np.zeros((6, len(scenes), slots), dtype=np.int64)
        centres = np.zeros((2, len(scenes), slots))
        for row, scene in enumerate(scenes):
            for slot, item in enumerate(scene.objects):
                codes[:, row, slot] = _codes(item)
                centres[:, row, slot] = item.x, item.y
        backgrounds = [_background_codes(scene.background) for scene in scenes]
        kind_and_colours = np.array(backgrounds, dtype=np.int64).reshape(-1, 3)
        shape, colour, size, fill, cell, angle = codes
        return cls(
            kind=kind_and_colours[:, 0],
            colours=kind_and_colours[:, 1:],
            count=np.array([len(scene.objects) for scene in scenes], dtype=np.int64),
            shape=shape,
            colour=colour,
            size=size,
            fill=fill,
            cell=cell,
            x=centres[0],
            y=centres[1],
            angle=angle,
        )


def _background(kind: int, colours: Sequence[int]) -> Background:
    name = BACKGROUND_KINDS[kind]
    used = colours[:1] if name == "plain" else colours
    return Background(name, tuple(BACKGROUND_COLOURS[code] for code in used))


def _background_codes(background: Background) -> tuple[int, int, int]:
    first, second = background.colours[0], background.colours[-1]
    kind = BACKGROUND_KINDS.index(background.kind)
    return kind, BACKGROUND_COLOURS.index(first), BACKGROUND_COLOURS.index(second)


def _object(values: tuple[Any, ...]) -> Object:
    shape, colour, size, fill, cell, x, y, angle = values
    return Object(
        SHAPES[shape], COLOURS[colour], SIZES[size], FILLS[fill], CELLS[cell], x, y, angle
    )


def _codes(item: Object) -> tuple[int, int, int, int, int, int]:
    return (
        SHAPES.index(item.shape),
        COLOURS.index(item.colour),
        SIZES.index(item.size),
        FILLS.index(item.fill),
        CELLS.index(item.cell),
        item.angle,
    )
