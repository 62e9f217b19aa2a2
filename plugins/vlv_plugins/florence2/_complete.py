"""What a recipe leaves to the model's own files: architecture, pixels, the prompt's tokens."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlv_core.errors import ConfigError, ModelError
from vlv_core.specs import PixelSpec, Resample, Source
from vlv_plugins._hub import preset, read_json, read_tokenizer
from vlv_plugins.florence2._architecture import trimmed
from vlv_plugins.florence2.config import (
    PIXELS,
    PROMPT,
    PROMPT_IDS,
    TASKS,
    BottleneckConfig,
    EncoderConfig,
)

Fetch = Callable[[Source], Path]
PACKAGE = "vlv_plugins.florence2"
TOKENIZER = "tokenizer.json"
PROCESSOR = "preprocessor_config.json"
FILES = ("config.json", PROCESSOR, TOKENIZER)
_RESAMPLE: dict[int, Resample] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "area",
}
"""Pillow's numbers, which processors' files use"""
_STEPS = ("do_resize", "do_rescale", "do_normalize")


def complete_encoder(config: EncoderConfig, fetch: Fetch) -> EncoderConfig:
    """Fill `architecture` and `pixels`: as they are, by the preset, or from the model's files.

    Raises ModelError for a missing file, ConfigError for a model or processor of another kind.
    """
    known = preset(PACKAGE, config.model)
    pixels = config.pixels or (PIXELS if known or config.architecture else None)
    if pixels is None:
        file = _folder(config.model, fetch) / PROCESSOR
        pixels = read_pixels(read_json(file)) if file.is_file() else PIXELS
    architecture = _architecture(config, known, fetch, "vision_config")
    return replace(config, architecture=architecture, pixels=pixels)


def complete_bottleneck(config: BottleneckConfig, fetch: Fetch) -> BottleneckConfig:
    """Fill `architecture` and `prompt_ids`: as they are, by the preset, or from the files.

    Raises ModelError for a missing file, ConfigError for a model of another kind.
    """
    known = preset(PACKAGE, config.model)
    architecture = _architecture(config, known, fetch, "text_config")
    ids = config.prompt_ids
    if not ids and config.prompt == PROMPT and (known or config.architecture):
        ids = PROMPT_IDS
    if not ids:
        ids = _prompt_ids(config, _folder(config.model, fetch), architecture["text_config"])
    return replace(config, architecture=architecture, prompt_ids=ids)


def read_pixels(table: Mapping[str, Any]) -> PixelSpec:
    """The pixel spec of a preprocessor_config.json. Raises ConfigError for what squashes not."""
    size = table.get("size")
    edges = size if isinstance(size, Mapping) else {}
    edge = edges.get("height")
    plain = edge == edges.get("width") and not table.get("do_center_crop")
    plain = plain and all(table.get(step, True) for step in _STEPS)
    rescaled = abs(float(table.get("rescale_factor", 1 / 255)) * 255 - 1) < 1e-6
    if not plain or not edge or not rescaled or table.get("resample", 3) not in _RESAMPLE:
        keys = ("size", "do_center_crop", "resample", "rescale_factor", *_STEPS)
        said = {key: table[key] for key in keys if key in table}
        raise ConfigError(f"{PROCESSOR}: {said} is not supported; Florence-2 squashes to a square")
    return PixelSpec(
        size=edge,
        fit="squash",
        resample=_RESAMPLE[table.get("resample", 3)],
        mean=_three(table.get("image_mean", PIXELS.mean)),
        std=_three(table.get("image_std", PIXELS.std)),
    )


def _architecture(
    config: EncoderConfig | BottleneckConfig,
    known: Mapping[str, Any] | None,
    fetch: Fetch,
    half: str,
) -> dict[str, Any]:
    """Only the half that the part is built from."""
    if config.architecture:
        return config.architecture
    found = trimmed(known or read_json(_folder(config.model, fetch) / "config.json"))
    if half not in found:
        raise ConfigError(f"{config.model!r}: config.json has no {half!r}, so it is no Florence-2")
    return {"model_type": found["model_type"], half: found[half]}


def _folder(model: str, fetch: Fetch) -> Path:
    return fetch(Source(location=model, files=FILES))


def _prompt_ids(
    config: BottleneckConfig, folder: Path, text_config: Mapping[str, Any]
) -> tuple[int, ...]:
    """The prompt's tokens by the model's own tokenizer, between its begin and end."""
    file = folder / TOKENIZER
    if not file.is_file():
        if config.prompt == PROMPT:
            return PROMPT_IDS
        raise ModelError(
            f"'{folder}' has no {TOKENIZER!r}, which the prompt {config.prompt!r} needs",
            hint=f"give prompt_ids, or use the prompt {PROMPT!r}",
        )
    words = TASKS.get(config.prompt, config.prompt)
    ids = read_tokenizer(file).encode(words, add_special_tokens=False).ids
    return (text_config.get("bos_token_id", 0), *ids, text_config.get("eos_token_id", 2))


def _three(values: Any) -> tuple[float, float, float]:
    first, second, third = map(float, values)
    return first, second, third
