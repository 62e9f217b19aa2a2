"""Packages for ONNX Runtime GenAI, made as the pipeline makes them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlv_core.captioner import Captioner
from vlv_core.generation import GenerationOptions
from vlv_core.preprocess import to_pixels
from vlv_export.exporters import Job, Planned
from vlv_export.genai._exporter import GenaiExporter
from vlv_export.manifest import VariantEntry
from vlv_export.pictures import synthetic


def make(
    graphs: Mapping[str, Path], assets: Path, folder: Path, *, dtype: str = "fp32"
) -> VariantEntry:
    """Write a package to `folder`."""
    folder.mkdir(parents=True)
    planned = Planned(name=f"genai-{dtype}", dtype=dtype, bytes=0)
    job = Job(planned=planned, graphs=graphs, parts={}, assets=assets, folder=folder, tell=str)
    return GenaiExporter().build(job)


def views(count: int, *, size: int = 64) -> NDArray[np.uint8]:
    """Pictures of numbers alone, (count, size, size, 3)."""
    return synthetic(count, height=size, width=size, seed=3)


def eager(captioner: Captioner, pictures: NDArray[np.uint8], *, length: int) -> list[list[int]]:
    """The torch captioner's greedy tokens. Loops are let run, for GenAI does not notice them."""
    options = GenerationOptions(max_new_tokens=length, stop_on_repetition=False)
    return [list(each.tokens) for each in captioner.caption(list(pictures), options=options)]


def pixels(captioner: Captioner, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As the encoder reads them."""
    model: Any = captioner.backend
    return to_pixels(pictures, model.model.encoder.pixels)


def scripts(folder: Path) -> list[str]:
    """The programs of the package's README."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
