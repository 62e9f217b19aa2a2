"""What a recipe leaves to the published files: the architecture, and how pixels are made."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlv_core import PixelSpec, Source
from vlv_core.errors import ConfigError, ModelError
from vlv_core.specs import Resample
from vlv_plugins import _hub
from vlv_plugins.vision_transformers._families import vision_table
from vlv_plugins.vision_transformers.config import VisionTransformerConfig

PACKAGE = "vlv_plugins.vision_transformers"
CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"

_RESAMPLES: tuple[Resample, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "area")
"""by Pillow's numbers, which the files hold"""


def complete(
    config: VisionTransformerConfig, fetch: Callable[[Source], Path]
) -> VisionTransformerConfig:
    """Fill `architecture`, `pixels` and `image_size`; a filled architecture is left alone.

    Raises ConfigError for a model that is not supported, ModelError for files that are missing or
    do not say what is needed.
    """
    if config.architecture:
        return config
    files = _hub.preset(PACKAGE, config.model) or _read(config, fetch)
    _, architecture = vision_table(files[CONFIG])
    pixels = config.pixels or resized(pixel_spec(files[PROCESSOR]), config.image_size)
    return replace(config, architecture=architecture, pixels=pixels, image_size=pixels.size)


def _read(config: VisionTransformerConfig, fetch: Callable[[Source], Path]) -> dict[str, Any]:
    wanted = (CONFIG,) if config.pixels else (CONFIG, PROCESSOR)
    folder = fetch(Source(location=config.model, files=wanted))
    architecture = _hub.read_json(folder / CONFIG)
    # Said before a missing processor file would hide it.
    vision_table(architecture)
    return {CONFIG: architecture, **{name: _hub.read_json(folder / name) for name in wanted[1:]}}


def pixel_spec(processor: Mapping[str, Any]) -> PixelSpec:
    """What a preprocessor_config.json of an image processor says.

    Raises ModelError for a key that is missing, ConfigError for steps that cannot be followed.
    """
    if not processor.get("do_resize", True) or not processor.get("do_rescale", True):
        raise ConfigError(f"{PROCESSOR}: pictures are not resized or not rescaled", hint=_HINT)
    crops = bool(processor.get("do_center_crop"))
    edge = _edge(_needed(processor, "size"))
    size = _edge(_needed(processor, "crop_size")) if crops else edge
    normalises = processor.get("do_normalize", True)
    return PixelSpec(
        size=size,
        fit="crop" if crops else "squash",
        resample=_resample(_needed(processor, "resample")),
        mean=_three(_needed(processor, "image_mean")) if normalises else (0.0, 0.0, 0.0),
        std=_three(_needed(processor, "image_std")) if normalises else (1.0, 1.0, 1.0),
        edge=edge if crops and edge != size else None,
    )


def resized(pixels: PixelSpec, size: int) -> PixelSpec:
    """The same share of the picture at another size; 0 leaves it as it is."""
    if size in (0, pixels.size):
        return pixels
    edge = pixels.edge and round(pixels.edge * size / pixels.size)
    return replace(pixels, size=size, edge=edge)


_HINT = "set pixels in the recipe: size, fit, edge, resample, mean, std"


def _needed(processor: Mapping[str, Any], key: str) -> Any:
    if processor.get(key) is None:
        raise ModelError(f"{PROCESSOR} has no {key!r}", hint=_HINT)
    return processor[key]


def _edge(size: Any) -> int:
    """Of 224, {"shortest_edge": 224}, or {"height": 224, "width": 224}: views are square."""
    edges = set(size.values()) if isinstance(size, Mapping) else {size}
    if len(edges) != 1 or not all(isinstance(edge, int) and edge > 0 for edge in edges):
        raise ConfigError(f"{PROCESSOR}: {size!r} is not one edge of a square", hint=_HINT)
    return int(edges.pop())


def _resample(number: Any) -> Resample:
    if number not in range(len(_RESAMPLES)):
        raise ConfigError(f"{PROCESSOR}: no filter has the number {number!r}", hint=_HINT)
    return _RESAMPLES[number]


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
