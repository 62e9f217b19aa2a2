"""ShapeScape-64: a procedural world with an invertible caption grammar, as data and as metrics."""

from collections.abc import Iterable

from vlv_core import DatasetSpec, EvaluatorSpec, hookimpl
from vlv_plugins.scenes.config import ScenesConfig, ScenesEvalConfig


@hookimpl
def vlv_datasets() -> Iterable[DatasetSpec]:
    return [
        DatasetSpec(
            name="scenes",
            summary="ShapeScape-64: rendered scenes with exact captions, made on demand",
            open="vlv_plugins.scenes.dataset:open_scenes",
            config=ScenesConfig,
            synthetic=True,
        )
    ]


@hookimpl
def vlv_evaluators() -> Iterable[EvaluatorSpec]:
    return [
        EvaluatorSpec(
            name="scenes",
            summary="scene F1 and CIDEr-D of captions, and reconstructions read by an oracle",
            evaluate="vlv_plugins.scenes.evaluate:evaluate",
            config=ScenesEvalConfig,
        )
    ]
