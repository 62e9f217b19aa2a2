"""Words to facts: the exact inverse of `captions`, by the same templates.

Text that no template could have written, words outside the vocabulary, and a stated count that the
listed objects contradict are all unparsable. Letter case and amounts of white space are ignored.
"""

import json
import re
from functools import cache

from vlv_plugins.scenes.facts import Facts, ObjectFacts, RelationFacts, facts_of
from vlv_plugins.scenes.relations import RELATIONS
from vlv_plugins.scenes.templates import (
    BACKGROUND_PHRASES,
    COUNTS,
    OBJECT_KEYS,
    REGISTERS,
    TEMPLATES,
    Form,
    Register,
    Template,
)
from vlv_plugins.scenes.vocabulary import (
    BACKGROUND_COLOURS,
    BACKGROUND_KINDS,
    CELLS,
    COLOURS,
    FILLS,
    SHAPES,
    SIZES,
)
from vlv_plugins.scenes.world import Background

VALUES = dict(zip(OBJECT_KEYS, (SHAPES, COLOURS, SIZES, FILLS, CELLS), strict=True))
"""Every value of each attribute of an object, by the attribute's name."""


def parse(text: str, register: Register | None = None) -> Facts | None:
    """What a caption states, or None if unparsable; without a register, the first that fits."""
    for candidate in REGISTERS if register is None else (register,):
        found = _parse_json(text) if candidate == "json" else _parse_words(text, candidate)
        if found is not None:
            return found
    return None


def _parse_words(text: str, register: Register) -> Facts | None:
    plain = " ".join(text.lower().split())
    for template in TEMPLATES[register]:
        match = _pattern(template).fullmatch(plain)
        found = _read(match.groupdict(), template) if match else None
        if found is not None:
            return found
    return None


def _read(slots: dict[str, str], template: Template) -> Facts | None:
    phrases = re.split(_separators(template), slots["objects"])
    matches = [_object(template.form, template.article).fullmatch(phrase) for phrase in phrases]
    if not all(matches) or slots.get("count", _count(len(phrases))) != _count(len(phrases)):
        return None
    objects = [_bound(match.groupdict(), template.form) for match in matches if match]
    background = _background(slots["background"]) if "background" in slots else None
    relations = (_relation(slots["relation"]),) if "relation" in slots else ()
    return facts_of(objects, background=background, relations=relations)


def _count(number: int) -> str | None:
    return COUNTS[number - 1] if number <= len(COUNTS) else None


@cache
def _separators(template: Template) -> str:
    return f"{re.escape(template.comma)}|{re.escape(template.last)}"


@cache
def _pattern(template: Template) -> re.Pattern[str]:
    slots = {
        "objects": "(?P<objects>.+)",
        "background": f"(?P<background>{_any_background()})",
        "count": f"(?P<count>{'|'.join(COUNTS)})",
        "relation": f"(?P<relation>{_RELATION.pattern})",
    }
    parts = re.split(r"\{(\w+)\}", template.text)
    return re.compile(
        "".join(slots[part] if odd % 2 else re.escape(part) for odd, part in enumerate(parts))
    )


def _one_of(words: tuple[str, ...]) -> str:
    # Longest first, so that "top left" is not read as "top".
    return "|".join(sorted(words, key=len, reverse=True))


_LOOK = f"(?:{_one_of(COLOURS)}) (?:{_one_of(SHAPES)})"
_RELATION = re.compile(f"the {_LOOK} is (?:{_one_of(RELATIONS)}) the {_LOOK}")


@cache
def _object(form: Form, article: bool) -> re.Pattern[str]:
    look = f"(?P<colour>{_one_of(COLOURS)}) (?P<shape>{_one_of(SHAPES)})"
    if form == "phrase":
        return re.compile(f"{'an? ' if article else ''}{look}")
    full = f"(?P<size>{_one_of(SIZES)}) (?:(?P<fill>outlined|striped|dotted) )?{look}"
    cell = f"(?P<cell>{_one_of(CELLS)})"
    whole = {"tag": full, "located": f"a {full} in the {cell}", "led": f"{cell}: a {full}"}
    return re.compile(whole[form])


def _bound(values: dict[str, str | None], form: Form) -> ObjectFacts:
    fill = values.get("fill") or "solid"
    return ObjectFacts(
        shape=str(values["shape"]),
        colour=str(values["colour"]),
        size=values.get("size"),
        fill=None if form == "phrase" else fill.replace("outlined", "outline"),
        cell=values.get("cell"),
    )


@cache
def _background_patterns() -> dict[str, re.Pattern[str]]:
    colour = _one_of(BACKGROUND_COLOURS)
    first, second = f"(?P<first>{colour})", f"(?P<second>{colour})"
    return {
        kind: re.compile(phrase.format(first, second))
        for kind, phrase in BACKGROUND_PHRASES.items()
    }


@cache
def _any_background() -> str:
    colour = f"(?:{_one_of(BACKGROUND_COLOURS)})"
    return "|".join(phrase.format(colour, colour) for phrase in BACKGROUND_PHRASES.values())


def _background(text: str) -> Background | None:
    for kind, pattern in _background_patterns().items():
        match = pattern.fullmatch(text)
        if match:
            groups = match.groupdict()
            return Background(kind, tuple(groups[n] for n in ("first", "second") if n in groups))
    return None


def _relation(text: str) -> RelationFacts:
    subject, other = re.findall(_LOOK, text)
    (name,) = (item for item in RELATIONS if f" is {item} " in text)
    colour, shape = subject.split()
    other_colour, other_shape = other.split()
    return RelationFacts((colour, shape), name, (other_colour, other_shape))


def _parse_json(text: str) -> Facts | None:
    try:
        data = json.loads(text)
        kind, colours = data["background"]["kind"], tuple(data["background"]["colours"])
        rows = [
            item if isinstance(item, list) else [item[key] for key in OBJECT_KEYS]
            for item in data["objects"]
        ]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    known = all(
        len(row) == len(OBJECT_KEYS)
        and all(value in VALUES[key] for key, value in zip(OBJECT_KEYS, row, strict=True))
        for row in rows
    )
    if not known or not _known_background(kind, colours):
        return None
    return facts_of([ObjectFacts(*row) for row in rows], background=Background(kind, colours))


def _known_background(kind: object, colours: tuple[object, ...]) -> bool:
    expected = 1 if kind == "plain" else 2
    return (
        kind in BACKGROUND_KINDS
        and len(colours) == expected
        and all(colour in BACKGROUND_COLOURS for colour in colours)
    )
