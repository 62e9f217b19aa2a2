"""How well a caption, or a scene read from pixels, agrees with the truth.

Scene F1 is micro-F1 over objects as bound tuples: one wrong attribute makes the whole object wrong.
The background is reported apart, because an answer with the background alone would otherwise score
well. What cannot be parsed states nothing, and so finds nothing. `estimates` makes rates of scores.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vlv_plugins.scenes.captions import facts
from vlv_plugins.scenes.facts import Facts, ObjectFacts, bound, facts_of, relations_of
from vlv_plugins.scenes.parsing import parse
from vlv_plugins.scenes.templates import OBJECT_KEYS, Register
from vlv_plugins.scenes.world import Object, Scene


@dataclass(frozen=True)
class ObjectScore:
    """How the objects of an answer agree with those of a scene."""

    predicted: int
    """Objects in the answer."""
    true: int
    """Objects in the scene."""
    matched: int
    """Objects of the answer that the scene holds; each of the scene's is used once."""
    invented: int
    """Objects of the answer whose like is nowhere in the scene."""
    right: dict[str, int]
    """For each stated attribute, the true objects that have it right under the best assignment."""


@dataclass(frozen=True)
class Score:
    """How one answer agrees with one scene."""

    parsed: bool
    objects: ObjectScore
    background: bool | None
    """Whether the background is right; None where it is not asked for."""
    relations: int
    """Relations in the answer."""
    relations_right: int

    @property
    def exact(self) -> bool:
        """Whether objects, background and relations are all as in the scene."""
        found = self.objects
        same = found.matched == found.predicted == found.true
        return same and self.background is not False and self.relations == self.relations_right


def score(predicted: str | Facts | Scene | None, scene: Scene, register: Register) -> Score:
    """Compare an answer with a scene, as far as the register goes.

    `predicted` is a caption, its facts (None: unparsable), or a scene that an oracle read.
    """
    stated = _stated(predicted, register)
    answer = stated or facts_of([])
    truth = facts(scene, register, variant=0)
    true_relations = set(relations_of(scene)) if answer.relations else set()
    return Score(
        parsed=stated is not None,
        objects=compare(answer.objects, truth.objects),
        background=None if truth.background is None else answer.background == truth.background,
        relations=len(answer.relations),
        relations_right=sum(item in true_relations for item in answer.relations),
    )


def score_objects(predicted: Sequence[Object], true: Sequence[Object]) -> Score:
    """Compare two object lists in full, without backgrounds."""
    objects = compare([bound(item) for item in predicted], [bound(item) for item in true])
    return Score(parsed=True, objects=objects, background=None, relations=0, relations_right=0)


def _stated(predicted: str | Facts | Scene | None, register: Register) -> Facts | None:
    if isinstance(predicted, str):
        return parse(predicted, register)
    if isinstance(predicted, Scene):
        read = facts(predicted, register, variant=0)
        return facts_of(read.objects, background=read.background)
    return predicted


def compare(answer: Sequence[ObjectFacts], truth: Sequence[ObjectFacts]) -> ObjectScore:
    """Compare objects as bound tuples; equal ones may occur several times."""
    matched = sum((Counter(answer) & Counter(truth)).values())
    known = set(truth)
    right = dict(zip(OBJECT_KEYS, _assigned(answer, truth), strict=True))
    unstated = {key for item in truth for key in OBJECT_KEYS if getattr(item, key) is None}
    return ObjectScore(
        predicted=len(answer),
        true=len(truth),
        matched=matched,
        invented=sum(item not in known for item in answer),
        right={key: number for key, number in right.items() if key not in unstated},
    )


def _assigned(answer: Sequence[ObjectFacts], truth: Sequence[ObjectFacts]) -> tuple[int, ...]:
    """Right values of each attribute when answers are assigned so that most are right in all."""
    # best[used] is the best over the answers so far, for each set (bits) of truths that are taken.
    best = {0: (0,) * len(OBJECT_KEYS)}
    for item in answer:
        extended = dict(best)
        for used, right in best.items():
            for number, true in enumerate(truth):
                gained = tuple(n + (a == b) for n, a, b in zip(right, item, true, strict=True))
                now = used | 1 << number
                if now != used and sum(gained) > sum(extended.get(now, (-1,))):
                    extended[now] = gained
        best = extended
    return max(best.values(), key=sum)
