"""Questions: the wording, and every answer against a plain reading of the scene."""

from collections import Counter

import pytest

from vlv_core.errors import UsageError
from vlv_plugins.scenes.programs import FUNCTIONS, Call, run
from vlv_plugins.scenes.questions import KINDS, Question, questions
from vlv_plugins.scenes.relations import relation
from vlv_plugins.scenes.splits import scenes
from vlv_plugins.scenes.vocabulary import SHAPES
from vlv_plugins.scenes.world import WORLDS, Background, Object, Scene

CIRCLE = Object("circle", "red", "large", "solid", "top left", 14.0, 14.0, 0)
STAR = Object("star", "blue", "medium", "solid", "bottom left", 14.0, 50.0, 20)
CROSS = Object("cross", "blue", "small", "solid", "right", 50.0, 32.0, 0)
SCENE = Scene(Background("plain", ("grey",)), (CIRCLE, STAR, CROSS))

SCENE_CALL = Call("scene")
BLUE = Call("filter", (SCENE_CALL, "colour", "blue"))
RED_CIRCLE = Call("unique", (Call("filter", (SCENE_CALL, "colour", "red")),))
THE_STAR = Call("unique", (Call("filter", (SCENE_CALL, "shape", "star")),))


@pytest.mark.parametrize(
    ("program", "answer"),
    [
        (Call("count", (SCENE_CALL,)), "3"),
        (Call("count", (BLUE,)), "2"),
        (Call("count", (Call("filter", (BLUE, "shape", "star")),)), "1"),
        (Call("exist", (BLUE,)), "yes"),
        (Call("exist", (Call("filter", (BLUE, "size", "large")),)), "no"),
        (Call("query", (RED_CIRCLE, "cell")), "top left"),
        (Call("query", (RED_CIRCLE, "shape")), "circle"),
        (Call("query", (THE_STAR, "colour")), "blue"),
        (Call("greater", (Call("count", (BLUE,)), Call("count", (SCENE_CALL,)))), "no"),
        (Call("greater", (Call("count", (SCENE_CALL,)), Call("count", (BLUE,)))), "yes"),
        (Call("greater", (Call("count", (BLUE,)), Call("count", (BLUE,)))), "no"),
        (Call("related", (RED_CIRCLE, "above", THE_STAR)), "yes"),
        (Call("related", (THE_STAR, "above", RED_CIRCLE)), "no"),
        (Call("related", (RED_CIRCLE, "left of", THE_STAR)), "no"),
    ],
    ids=str,
)
def test_programs_by_hand(program, answer):
    assert run(program, SCENE) == answer


def test_programs_read_as_they_run():
    assert str(Call("count", (BLUE,))) == "count(filter(scene(), colour, blue))"


@pytest.mark.parametrize("number", [0, 2])
def test_one_object_is_supposed_to_be_one(number):
    drawn = Scene(SCENE.background, (STAR,) * number)
    with pytest.raises(UsageError, match=f"supposes one object, and the scene has {number}"):
        run(Call("query", (THE_STAR, "colour")), drawn)


def test_an_unknown_function_is_refused_with_what_exists():
    with pytest.raises(UsageError, match="no function named 'counts'; did you mean 'count'"):
        run(Call("counts", (SCENE_CALL,)), SCENE)
    with pytest.raises(UsageError, match="functions: scene, filter, unique, exist, count, query"):
        run(Call("paint", (SCENE_CALL,)), SCENE)


def test_every_function_is_used_by_some_question():
    used: set[str] = set()

    def collect(call: Call | str) -> None:
        if isinstance(call, Call):
            used.add(call.function)
            for argument in call.arguments:
                collect(argument)

    for variant in range(60):
        for question in questions(SCENE, world=WORLDS["M"], variant=variant):
            collect(question.program)
    assert used == {"scene", *FUNCTIONS}


SINGULAR = {f"{shape}es" if shape.endswith("s") else f"{shape}s": shape for shape in SHAPES}


def plain_answer(question: Question, scene: Scene) -> str:
    """The answer from the English text alone, by looking at the scene."""
    words = question.text.rstrip("?").split()
    looks = {(x.colour, x.shape): x for x in scene.objects}
    shapes = Counter(x.shape for x in scene.objects)
    match question.kind:
        case "exist":
            answer = yes((words[-2], words[-1]) in looks)
        case "count":
            # "how many red objects are there", "what is the number of circles"
            noun = words[2] if words[0] == "how" else words[5]
            if "objects" in words:
                answer = str(sum(x.colour == noun for x in scene.objects))
            else:
                answer = str(shapes[SINGULAR[noun]])
        case "colour":
            (answer,) = (x.colour for x in scene.objects if x.shape == words[-1])
        case "where":
            answer = looks[words[-2], words[-1]].cell
        case "compare":
            more, fewer = (SINGULAR[word] for word in words if word in SINGULAR)
            answer = yes(shapes[more] > shapes[fewer])
        case _:
            first, second = looks[words[2], words[3]], looks[words[-2], words[-1]]
            answer = yes(relation(first, second) == " ".join(words[4:-3]))
    return answer


def yes(holds: bool) -> str:
    return "yes" if holds else "no"


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_every_answer_agrees_with_a_plain_reading_of_the_text(world):
    asked: Counter[str] = Counter()
    for variant, scene in enumerate(scenes(world, "iid", range(800))):
        for question in questions(scene, world=world, variant=variant):
            asked[question.kind] += 1
            assert question.answer == plain_answer(question, scene), question
            assert run(question.program, scene) == question.answer
    assert set(asked) == set(KINDS)
    assert min(asked.values()) > 150


def test_twins_make_some_questions_senseless():
    twins = Scene(SCENE.background, (STAR, STAR))
    kinds = {
        question.kind
        for variant in range(20)
        for question in questions(twins, world=WORLDS["S"], variant=variant)
    }
    assert kinds == {"exist", "count", "compare"}


def test_questions_depend_on_the_variant_alone():
    world = WORLDS["M"]
    first = questions(SCENE, world=world, variant=3)
    assert first == questions(SCENE, world=world, variant=3)
    assert first != questions(SCENE, world=world, variant=4)


@pytest.mark.parametrize("kind", ["exist", "compare", "relate"])
def test_neither_yes_nor_no_is_rare(kind):
    world = WORLDS["M"]
    answers = Counter(
        question.answer
        for variant, scene in enumerate(scenes(world, "iid", range(800)))
        for question in questions(scene, world=world, variant=variant)
        if question.kind == kind
    )
    assert 0.25 < answers["yes"] / sum(answers.values()) < 0.75


def test_the_wordings_of_each_kind():
    texts = {
        (question.kind, " ".join(question.text.split()[:3]))
        for variant in range(200)
        for question in questions(SCENE, world=WORLDS["M"], variant=variant)
        if question.kind != "compare"
    }
    assert {(kind, start) for kind, start in texts if kind not in ("count", "exist", "relate")} == {
        ("colour", "what colour is"),
        ("colour", "what is the"),
        ("where", "where is the"),
        ("where", "in which part"),
    }
    assert ("exist", "does the picture") in texts
    assert ("count", "what is the") in texts
