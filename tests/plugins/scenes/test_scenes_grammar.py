"""The grammar beyond what scenes hold: any facts through every template; spoilt captions."""

import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlv_plugins.scenes.captions import caption, facts, write
from vlv_plugins.scenes.facts import Facts, ObjectFacts, RelationFacts, facts_of
from vlv_plugins.scenes.parsing import parse
from vlv_plugins.scenes.relations import RELATIONS
from vlv_plugins.scenes.scoring import score
from vlv_plugins.scenes.splits import scene, scenes
from vlv_plugins.scenes.templates import COUNTS, REGISTERS, TEMPLATES, Register, Template
from vlv_plugins.scenes.vocabulary import (
    BACKGROUND_COLOURS,
    BACKGROUND_KINDS,
    CELLS,
    COLOURS,
    FILLS,
    SHAPES,
    SIZES,
)
from vlv_plugins.scenes.world import WORLDS, Background

NUMBERED = [
    (register, number) for register in REGISTERS for number in range(len(TEMPLATES[register]))
]
VALUES = {*COLOURS, *SHAPES, *SIZES, *FILLS, *BACKGROUND_COLOURS, *" ".join(CELLS).split()}
quick = settings(max_examples=40, deadline=None, derandomize=True)


@st.composite
def backgrounds(draw: st.DrawFn) -> Background:
    kind = draw(st.sampled_from(BACKGROUND_KINDS))
    number = 1 if kind == "plain" else 2
    colours = st.lists(st.sampled_from(BACKGROUND_COLOURS), min_size=number, max_size=number)
    return Background(kind, tuple(draw(colours)))


full_objects = st.builds(
    ObjectFacts,
    shape=st.sampled_from(SHAPES),
    colour=st.sampled_from(COLOURS),
    size=st.sampled_from(SIZES),
    fill=st.sampled_from(FILLS),
    cell=st.sampled_from(CELLS),
)
looks = st.tuples(st.sampled_from(COLOURS), st.sampled_from(SHAPES))
relations = st.builds(RelationFacts, looks, st.sampled_from(RELATIONS), looks)


@st.composite
def stated(draw: st.DrawFn, template: Template) -> Facts:
    """Facts with what a template can say: objects may be alike and share a cell."""
    objects = draw(st.lists(full_objects, min_size=1, max_size=len(COUNTS)))
    if template.form == "phrase":
        objects = [item._replace(size=None, fill=None, cell=None) for item in objects]
    elif template.form == "tag":
        objects = [item._replace(cell=None) for item in objects]
    return facts_of(
        objects,
        background=draw(backgrounds()) if template.has_background else None,
        relations=(draw(relations),) if template.has_relation else (),
    )


@pytest.mark.parametrize(("register", "number"), NUMBERED)
def test_every_template_says_any_facts_and_is_read_back(register: Register, number: int) -> None:
    template = TEMPLATES[register][number]

    @quick
    @given(stated(template))
    def check(said: Facts) -> None:
        text = write(said, template)
        assert parse(text, register) == said
        assert parse(text) == said

    check()


def meaningful(text: str) -> list[str]:
    """The words of a caption that stand for values, sorted."""
    return sorted(word for word in re.findall(r"[a-z]+", text) if word in VALUES)


def spoil(words: list[str], generator: random.Random) -> list[str]:
    """Drop, repeat, exchange or replace a word, as a weak model would."""
    place, other = (generator.randrange(len(words)) for _ in range(2))
    spoilt = list(words)
    kind = generator.randrange(4)
    if kind == 0:
        del spoilt[place]
    elif kind == 1:
        spoilt.insert(place, spoilt[other])
    elif kind == 2:
        spoilt[place], spoilt[other] = spoilt[other], spoilt[place]
    else:
        spoilt[place] = generator.choice((*COLOURS, *SHAPES, *CELLS, "dog", ""))
    return spoilt


@pytest.mark.parametrize("register", REGISTERS)
@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_spoilt_captions_are_unparsable_or_mean_something_else(world, register):
    """Parsing never raises, and a caption whose words changed is never scored as if it had not."""
    generator = random.Random(5)
    unparsable = 0
    for variant, drawn in enumerate(scenes(world, "iid", range(400))):
        text = caption(drawn, register, variant=variant)
        spoilt = " ".join(spoil(text.split(" "), generator))
        read = parse(spoilt, register)
        unparsable += read is None
        found = score(read, drawn, register)
        assert found.objects.matched <= min(found.objects.predicted, found.objects.true)
        if meaningful(spoilt) != meaningful(text):
            assert read != facts(drawn, register, variant=variant), (text, spoilt)
    assert unparsable > 100


@pytest.mark.parametrize("register", REGISTERS)
def test_cut_captions_never_pass_for_whole_ones(register):
    """A model that ran out of tokens has not stated the scene."""
    for variant in range(40):
        drawn = scene(WORLDS["M"], "iid", variant)
        text = caption(drawn, register, variant=variant)
        said = facts(drawn, register, variant=variant)
        assert all(parse(text[:end], register) != said for end in range(len(text)))


@quick
@given(st.text(max_size=200))
def test_parsing_never_raises(text):
    for register in (None, *REGISTERS):
        assert parse(text, register) is None or text.strip()


@quick
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.sampled_from(SHAPES),
        lambda inner: (
            st.lists(inner, max_size=5)
            | st.dictionaries(st.sampled_from(["shape", "kind", "colours", "cell"]), inner)
        ),
        max_leaves=12,
    )
)
def test_any_json_value_in_place_of_a_part_is_refused_quietly(value):
    for data in (
        value,
        {"background": value, "objects": []},
        {"background": {"kind": "plain", "colours": ["grey"]}, "objects": [value]},
        {"background": {"kind": value, "colours": value}, "objects": value},
    ):
        read = parse(json.dumps(data), "json")
        assert read is None or read.objects == ()
