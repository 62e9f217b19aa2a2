"""Reads the checkpoints of the paper's official release: `vlv import official`."""

from collections.abc import Iterable

from vlv_core import ImporterSpec, hookimpl


@hookimpl
def vlv_importers() -> Iterable[ImporterSpec]:
    return [
        ImporterSpec(
            name="official",
            summary="a checkpoint of the official VLV release, stage 1 or 2, into a model folder",
            command="vlv_plugins.official.command:command",
            requires=("torch", "transformers", "diffusers"),
            extra="models",
        )
    ]
