"""What a run's model is made of, read from its folder without torch."""

import json
import tomllib
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

from vlv_benchmarks.record import ModelFacts
from vlv_core.errors import ModelError, UsageError
from vlv_core.loading import find_model
from vlv_core.registry import Plugins

MANIFEST, ARTEFACT = "model.toml", "manifest.json"


def model_facts(model: str, *, plugins: Plugins) -> ModelFacts:
    """Raises ModelError for what is no model, UsageError for an artefact in a model's place."""
    folder = find_model(model, plugins=plugins)
    path = folder / MANIFEST
    if (folder / ARTEFACT).is_file() and not path.is_file():
        raise UsageError(
            f"{model} is an artefact, and --model is the trained model that rows are compared with",
            hint=f"--model NAME --artefact {model}",
        )
    if not path.is_file():
        raise ModelError(f"{path} is missing, so {folder} is no model")
    data = path.read_bytes()
    parts: dict[str, Any] = tomllib.loads(data.decode()).get("parts", {})
    tensors = {
        name: _tensors(folder / part["file"]) for name, part in parts.items() if part.get("file")
    }
    return ModelFacts(
        # the manifest holds the sha256 of every file of weights
        sha256=sha256(data).hexdigest(),
        plugins=tuple(dict.fromkeys(part["plugin"] for part in parts.values())),
        parameters={name: sum(prod(each["shape"]) for each in found.values())
                    for name, found in tensors.items()},
        bytes={name: (folder / parts[name]["file"]).stat().st_size for name in tensors},
        dtypes={name: "+".join(sorted({each["dtype"] for each in found.values()}))
                for name, found in tensors.items()},
    )  # fmt: skip


def _tensors(path: Path) -> dict[str, Any]:
    """name -> dtype and shape, by the header of a safetensors file."""
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header: dict[str, Any] = json.loads(stream.read(length))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    header.pop("__metadata__", None)
    return header
