"""Golden values of a tiny model: a few pictures, judged as if its weights had been trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlv_core.captioner import Captioner
from vlv_core.parts import ExportPart
from vlv_export._golden import write_golden
from vlv_export.golden import GOLDEN, Golden
from vlv_export.pictures import synthetic

PICTURES = 6


def write(
    captioner: Captioner, parts: Sequence[ExportPart], folder: Path, **options: Any
) -> Golden:
    """Write FOLDER/golden.safetensors and return what it holds."""
    backend: Any = captioner.backend
    pictures = list(synthetic(PICTURES, height=70, width=64, seed=3))
    return write_golden(
        backend.model, parts, captioner, folder / GOLDEN, pictures=pictures, seed=1, **options
    )
