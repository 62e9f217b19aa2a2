"""The sentences that captions are made of: `captions` fills them, `parsing` matches them.

Slots: {objects}; {background}, "plain grey"; {count}, "two objects"; {relation}, one of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

Register = Literal["short", "dense", "tags", "json"]
REGISTERS: tuple[Register, ...] = get_args(Register)

Form = Literal["phrase", "located", "led", "tag"]
"""How one object reads: a short phrase, followed by its cell, led by its cell, or a tag."""


@dataclass(frozen=True)
class Template:
    """A sentence, how its objects read, and what joins them: `last` stands before the last."""

    text: str
    form: Form
    comma: str = ", "
    last: str = " and "
    article: bool = True

    @property
    def has_relation(self) -> bool:
        """Whether it can only be used where a relation can be stated."""
        return "{relation}" in self.text

    @property
    def has_background(self) -> bool:
        """Whether it states the background."""
        return "{background}" in self.text


TEMPLATES: Mapping[Register, tuple[Template, ...]] = MappingProxyType(
    {
        "dense": (
            Template("a {background} background with {objects}.", "located"),
            Template("{objects} on a {background} background.", "located"),
            Template("on a {background} background: {objects}.", "located"),
            Template("{count} on a {background} background: {objects}.", "located"),
            Template("{background} background; {objects}.", "led", "; ", "; "),
            Template("{objects}; {background} background.", "led", "; ", "; "),
            Template("a {background} background with {objects}; {relation}.", "located"),
            Template("{objects} on a {background} background; {relation}.", "located"),
        ),
        "short": (
            Template("{objects}.", "phrase"),
            Template("a picture of {objects}.", "phrase"),
            Template("there is {objects}.", "phrase"),
            Template("{count}: {objects}.", "phrase"),
            Template("{objects}", "phrase", ", ", ", ", article=False),
            Template("just {objects}.", "phrase"),
        ),
        "tags": (
            Template("{objects}, {background} background", "tag", ", ", ", ", article=False),
            Template("{background} background, {objects}", "tag", ", ", ", ", article=False),
            Template(
                "{count}, {objects}, {background} background", "tag", ", ", ", ", article=False
            ),
            Template("{objects} | {background} background", "tag", " | ", " | ", article=False),
            Template(
                "{background} background; {count}; {objects}", "tag", "; ", "; ", article=False
            ),
        ),
        "json": (),
    }
)

JSON_LAYOUTS = ("spaced", "compact", "objects first", "rows")
"""How the JSON register can be laid out; `rows` lists an object's values without their names."""

OBJECT_KEYS = ("shape", "colour", "size", "fill", "cell")
"""The order of an object's values in JSON rows."""

COUNTS = ("one object", "two objects", "three objects", "four objects", "five objects")

BACKGROUND_PHRASES: Mapping[str, str] = MappingProxyType(
    {
        "plain": "plain {0}",
        "gradient": "{0} to {1} gradient",
        "checker": "{0} and {1} checker",
        "stripes": "{0} and {1} striped",
        "horizon": "{0} over {1} horizon",
        "dots": "{1} on {0} dotted",
    }
)

RELATION_LIMIT = 3
"""A relation is stated among at most so many objects: the longest captions must fit 72 tokens."""
