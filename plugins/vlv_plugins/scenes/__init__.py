"""ShapeScape-64: a procedural world with an invertible caption grammar, as data and as metrics."""

from collections.abc import Iterable

from vlv_core import DatasetSpec, hookimpl


@hookimpl
def vlv_datasets() -> Iterable[DatasetSpec]:
    from vlv_plugins.scenes.dataset import ScenesConfig

    return [
        DatasetSpec(
            name="scenes",
            summary="ShapeScape-64: rendered scenes with exact captions, made on demand",
            open="vlv_plugins.scenes.dataset:open_scenes",
            config=ScenesConfig,
        )
    ]
