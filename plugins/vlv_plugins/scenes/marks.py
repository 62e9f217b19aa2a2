"""A caption with each of its statements marked right or wrong."""

from collections import Counter

from vlv_core.strips import Line
from vlv_plugins.scenes.captions import (
    background_phrase,
    facts,
    object_phrase,
    relation_phrase,
)
from vlv_plugins.scenes.facts import relations_of
from vlv_plugins.scenes.parsing import parse
from vlv_plugins.scenes.templates import TEMPLATES
from vlv_plugins.scenes.world import Scene


def marks(text: str, scene: Scene) -> list[Line]:
    """The caption, then a line a statement; what it left out of the scene is wrong too."""
    stated, truth = parse(text, "dense"), facts(scene, "dense", variant=0)
    if stated is None:
        return [Line(text), Line("not a sentence of this world", right=False)]
    lines = [Line(text)]
    if stated.background:
        right = stated.background == truth.background
        lines.append(Line(f"{background_phrase(stated.background)} background", right))
    located = TEMPLATES["dense"][0]
    # Each true object makes one statement right, so that saying it twice is wrong once.
    left = Counter(truth.objects)
    for item in stated.objects:
        lines.append(Line(object_phrase(item, located), left[item] > 0))
        left[item] -= 1
    for relation in stated.relations:
        lines.append(Line(relation_phrase(relation), relation in relations_of(scene)))
    missed = [item for item in truth.objects if left[item] > 0]
    lines += [Line(f"not said: {object_phrase(item, located)}", right=False) for item in missed]
    return lines
