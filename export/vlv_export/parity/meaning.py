"""Pairing an evaluator's figure: the same pictures, captioned by the eager model and an artefact.

The eager model's captions are recorded once, by the digest of each picture. Given back to the
evaluator they score as they did, so that both figures come from one code and the same pictures.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlv_core.errors import ModelError
from vlv_core.evaluation import evaluate
from vlv_core.protocols import Caption
from vlv_core.registry import Plugins
from vlv_core.specs import View
from vlv_export.golden import Scored

EVALUATOR = "scenes"
OPTIONS: Mapping[str, Any] = {"splits": ["iid"], "captions": 200, "reconstructions": 0}
GROUP, ENTRY, FIGURE = "splits", "iid", "scene_f1"
PILOT = 8
"""captions that show whether the model knows the evaluator's world at all"""
FLOOR = 0.2
"""of the figure: a model below it does not know the world, and says nothing worth comparing"""

Score = Callable[[Any], Mapping[str, Any]]
"""captioner -> the evaluator's report"""


@dataclass
class Recorder:
    """A captioner that remembers what it was shown, and what it said."""

    captioner: Any
    pictures: list[NDArray[np.uint8]] = field(default_factory=list)
    said: dict[str, Caption] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.captioner.name)

    @property
    def domain(self) -> str:
        return str(self.captioner.domain)

    @property
    def view(self) -> View:
        view: View = self.captioner.view
        return view

    def caption(
        self, pictures: Any, *, options: Any = None, keys: Sequence[int] | None = None
    ) -> list[Caption]:
        captions: list[Caption] = self.captioner.caption(pictures, options=options, keys=keys)
        self.pictures += list(pictures)
        self.said |= {digest(each): said for each, said in zip(pictures, captions, strict=True)}
        return captions


@dataclass(frozen=True)
class Replay:
    """A captioner that says again what was recorded."""

    name: str
    captions: Mapping[str, Any]
    """digest -> text, finish reason"""
    domain: str = ""

    def caption(
        self, pictures: Any, *, options: Any = None, keys: Sequence[int] | None = None
    ) -> list[Caption]:
        """Raises ModelError for a picture that was not recorded."""
        return [self._said(digest(picture)) for picture in pictures]

    def _said(self, key: str) -> Caption:
        if key not in self.captions:
            raise ModelError(
                "the evaluator shows other pictures than when the model was exported",
                hint="export again with this version",
            )
        text, reason = self.captions[key]
        return Caption(text, (), reason, 0.0)


@dataclass(frozen=True)
class Recording:
    """What an evaluator showed, and what the eager model made of it."""

    scored: Scored
    pictures: Sequence[NDArray[np.uint8]]


def record(captioner: Any, *, plugins: Plugins) -> Recording | None:
    """The evaluator's figure of a captioner; None if it is not installed, or knows another world.

    Costs `PILOT` captions to find out, and 200 more where it applies.
    """
    if EVALUATOR not in plugins.names("evaluator"):
        return None
    pilot = scorer(plugins, EVALUATOR, {**OPTIONS, "captions": PILOT})
    if figure(pilot(captioner), GROUP, ENTRY, FIGURE) < FLOOR:
        return None
    recorder = Recorder(captioner)
    value = figure(scorer(plugins, EVALUATOR, OPTIONS)(recorder), GROUP, ENTRY, FIGURE)
    scored = Scored(
        evaluator=EVALUATOR,
        options=dict(OPTIONS),
        group=GROUP,
        entry=ENTRY,
        figure=FIGURE,
        value=value,
        captions={key: [said.text, said.finish_reason] for key, said in recorder.said.items()},
    )
    return Recording(scored, recorder.pictures)


def scorer(plugins: Plugins, evaluator: str, options: Mapping[str, Any]) -> Score:
    """The registered evaluator with its options."""

    def score(captioner: Any) -> Mapping[str, Any]:
        return evaluate(captioner, plugins=plugins, names=[evaluator], options=options)

    return score


def figure(report: Mapping[str, Any], group: str, entry: str, name: str) -> float:
    """One figure of an evaluator's report. Raises ModelError if it is not there."""
    try:
        return float(report[group][entry][name]["value"])
    except KeyError:
        raise ModelError(f"the evaluator reports no {group}.{entry}.{name}") from None


def digest(picture: NDArray[np.uint8]) -> str:
    """Of a picture's pixels and shape."""
    data = np.ascontiguousarray(picture)
    return blake2b(f"{data.shape}".encode() + data.tobytes(), digest_size=8).hexdigest()
