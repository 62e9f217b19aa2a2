"""Scenes to words: four registers, each of which `parsing` inverts exactly.

| register | states |
|---|---|
| short | colour and shape of each object |
| dense | the background and each object in full ("solid" goes without saying); some a relation |
| tags | the background, and size, fill, colour and shape of each object |
| json | the background and each object in full |
"""

import json
from functools import cache

from vlv_core.errors import UsageError, nearest
from vlv_plugins.scenes.facts import (
    Facts,
    ObjectFacts,
    RelationFacts,
    bound,
    facts_of,
    relations_of,
)
from vlv_plugins.scenes.philox import halves, key_of, philox
from vlv_plugins.scenes.templates import (
    BACKGROUND_PHRASES,
    COUNTS,
    JSON_LAYOUTS,
    OBJECT_KEYS,
    REGISTERS,
    RELATION_LIMIT,
    TEMPLATES,
    Form,
    Register,
    Template,
)
from vlv_plugins.scenes.world import Background, Scene


def caption(scene: Scene, register: Register, *, variant: int) -> str:
    """One caption of a scene; `variant`, in 0 .. 2**64 - 1, chooses the template.

    Raises UsageError for an unknown register, a variant out of range, and a scene with no or too
    many objects for words.
    """
    _check(register)
    stated, choice = _state(scene, register, variant=variant)
    if isinstance(choice, str):
        return _json(stated, layout=choice)
    return write(stated, choice)


def facts(scene: Scene, register: Register, *, variant: int) -> Facts:
    """What `caption` states, given the same arguments; `variant` matters to dense relations only.

    Raises UsageError for an unknown register.
    """
    _check(register)
    return _state(scene, register, variant=variant)[0]


def _check(register: str) -> None:
    if register not in REGISTERS:
        raise UsageError(
            f"no register named {register!r}{nearest(register, REGISTERS)}; "
            f"registers: {', '.join(REGISTERS)}"
        )


def _state(scene: Scene, register: Register, *, variant: int) -> tuple[Facts, Template | str]:
    which, side, _, _ = philox((*halves(variant), 0, 0), key=_key(register))
    objects = [bound(item) for item in scene.objects]
    if register == "json":
        stated = facts_of(objects, background=scene.background)
        return stated, JSON_LAYOUTS[which * len(JSON_LAYOUTS) >> 32]
    relation = _relation(scene, side) if register == "dense" else None
    usable = _usable(register, relation is not None)
    template = usable[which * len(usable) >> 32]
    if template.form == "phrase":
        objects = [ObjectFacts(item.shape, item.colour) for item in objects]
    elif template.form == "tag":
        objects = [item._replace(cell=None) for item in objects]
    background = scene.background if template.has_background else None
    relations = (relation,) if relation and template.has_relation else ()
    return facts_of(objects, background=background, relations=relations), template


@cache
def _key(register: str) -> tuple[int, int]:
    return key_of(f"shapescape-64/captions/{register}")


@cache
def _usable(register: Register, related: bool) -> tuple[Template, ...]:
    return tuple(item for item in TEMPLATES[register] if related or not item.has_relation)


def _relation(scene: Scene, word: int) -> RelationFacts | None:
    if not 2 <= len(scene.objects) <= RELATION_LIMIT:
        return None
    found = relations_of(scene)
    return found[word * len(found) >> 32] if found else None


def write(stated: Facts, template: Template) -> str:
    """Fill a template; the facts must hold what its slots and form ask for.

    Raises UsageError for no objects, and for more than there are words to count.
    """
    if not 1 <= len(stated.objects) <= len(COUNTS):
        raise UsageError(
            f"a caption in words states 1 to {len(COUNTS)} objects, not {len(stated.objects)}; "
            "the json register takes any number"
        )
    background = stated.background
    return template.text.format(
        objects=_listed([object_phrase(item, template) for item in stated.objects], template),
        background=background_phrase(background) if background else "",
        count=COUNTS[len(stated.objects) - 1],
        relation=relation_phrase(stated.relations[0]) if stated.relations else "",
    )


def _listed(phrases: list[str], template: Template) -> str:
    if len(phrases) == 1:
        return phrases[0]
    return template.comma.join(phrases[:-1]) + template.last + phrases[-1]


def object_phrase(item: ObjectFacts, template: Template) -> str:
    """One object, e.g. "a large striped red circle in the top left"."""
    form: Form = template.form
    if form == "phrase":
        return (
            f"{_article(item.colour)} {item.colour} {item.shape}"
            if template.article
            else f"{item.colour} {item.shape}"
        )
    fill = "" if item.fill == "solid" else f"{_FILL_WORDS.get(item.fill or '', item.fill)} "
    look = f"{item.size} {fill}{item.colour} {item.shape}"
    if form == "located":
        return f"a {look} in the {item.cell}"
    return look if form == "tag" else f"{item.cell}: a {look}"


_FILL_WORDS = {"outline": "outlined"}


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def background_phrase(background: Background) -> str:
    """A background as words without its noun, e.g. "white over navy horizon"."""
    return BACKGROUND_PHRASES[background.kind].format(*background.colours)


def relation_phrase(relation: RelationFacts) -> str:
    """A relation as words, e.g. "the red circle is left of the blue star"."""
    return f"the {' '.join(relation.subject)} is {relation.relation} the {' '.join(relation.other)}"


def _json(stated: Facts, *, layout: str) -> str:
    assert stated.background is not None
    background = {"kind": stated.background.kind, "colours": list(stated.background.colours)}
    if layout == "rows":
        rows = [list(item) for item in stated.objects]
        return json.dumps({"background": background, "objects": rows})
    objects = [dict(zip(OBJECT_KEYS, item, strict=True)) for item in stated.objects]
    if layout == "objects first":
        return json.dumps({"objects": objects, "background": background})
    separators = (",", ":") if layout == "compact" else None
    return json.dumps({"background": background, "objects": objects}, separators=separators)
