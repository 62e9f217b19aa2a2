"""Evaluators of a few lines, for tests of what runs them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from vlv_core.evaluation import Watcher
from vlv_core.registry import Owner, Plugins, Registered
from vlv_core.specs import EvaluatorSpec
from vlv_core.strips import Line, Row

PICTURE = np.full((8, 8, 3), 7, np.uint8)


@dataclass(frozen=True)
class ToyOptions:
    captions: int = 10
    seed: int = 0


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 3}


def splits(captioner: Any, options: ToyOptions, *, watcher: Watcher) -> dict[str, Any]:
    """Two entries, of which the second lacks a figure."""
    watcher.progress("captions", options.captions, options.captions)
    watcher.show(Row((PICTURE,) * 3, [Line("a caption"), Line("of this", right=True)]))
    whole = {"f1": figure(0.5), "words": figure(12.0)}
    return {"splits": {"iid": whole, "noise": {"f1": figure(0.25)}}}


def speed(captioner: Any, options: None, *, watcher: Watcher) -> dict[str, Any]:
    """Takes no options."""
    return {"speed": {"cpu": {"pictures_per_s": figure(90.0)}}}


def registered(name: str, function: str, *, config: Any = None, **spec: Any) -> Registered:
    reference = f"tests.core.toy_evaluators:{function}"
    made = EvaluatorSpec(name=name, summary="toy", evaluate=reference, config=config, **spec)
    return Registered("evaluator", made, Owner("toys", "1.0", "toys"))


SPLITS = registered("toy-splits", "splits", config=ToyOptions)
SPEED = registered("toy-speed", "speed")
BOTH = Plugins(registered=(SPLITS, SPEED))
