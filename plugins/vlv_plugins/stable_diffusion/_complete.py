"""A model's architecture from its preset, or from the small files beside its weights."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlv_core.errors import ConfigError
from vlv_core.specs import Source
from vlv_plugins._hub import preset, read_json
from vlv_plugins.stable_diffusion.config import StableDiffusionConfig, numbered

PACKAGE = "vlv_plugins.stable_diffusion"
PATTERNS = (
    *("model_index.json", "*/config.json", "scheduler/scheduler_config.json"),
    *("tokenizer*/tokenizer_config.json", "tokenizer*/special_tokens_map.json"),
)
SPECIALS = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
}
"""CLIP's own, for what a tokenizer's files leave open"""
ZEROS = "force_zeros_for_empty_prompt"
"""key of model_index.json: unconditional is zeros, not the empty prompt's encoding"""
NOISE = {"architectures", "torch_dtype", "dtype", "transformers_version"}
"""keys that say nothing of the architecture; a dtype would even override float32"""


def complete(
    config: StableDiffusionConfig, fetch: Callable[[Source], Path]
) -> StableDiffusionConfig:
    """Fill `architecture`: as it is, by the preset, or from the model's own files.

    Raises ModelError for a missing file, ConfigError for a model of another shape.
    """
    architecture = config.architecture or preset(PACKAGE, config.model)
    if not architecture:
        folder = fetch(Source(location=config.model, files=PATTERNS))
        architecture = read_architecture(folder, config)
    config = replace(config, architecture=architecture)
    check_architecture(config)
    return config


def read_architecture(folder: Path, config: StableDiffusionConfig) -> dict[str, Any]:
    """What a folder in the layout of diffusers says; model_index.json may be missing."""
    denoiser = next(
        (name for name in ("unet", "transformer") if (folder / name).is_dir()), config.denoiser
    )
    present = [name for name in ("text_encoder_2",) if (folder / name).is_dir()]
    models = dict.fromkeys([*numbered("text_encoder", config), *present, denoiser, "vae"])
    architecture: dict[str, Any] = {
        name: trimmed(read_json(folder / name / "config.json")) for name in models
    }
    architecture["scheduler"] = trimmed(read_json(folder / "scheduler" / "scheduler_config.json"))
    for name in numbered("tokenizer", config):
        architecture[name] = read_specials(folder / name)
    index = folder / "model_index.json"
    if index.is_file() and ZEROS in (keys := read_json(index)):
        architecture[ZEROS] = bool(keys[ZEROS])
    return architecture


def read_specials(folder: Path) -> dict[str, str]:
    """Special tokens of a tokenizer's files, as transformers reads them.

    special_tokens_map.json counts before tokenizer_config.json, unless the latter is of the newer
    kind that lists the added tokens. Stable Diffusion 2 has its padding "!" in the former alone.
    """
    found = _optional(folder / "tokenizer_config.json")
    if "added_tokens_decoder" not in found:
        found = found | _optional(folder / "special_tokens_map.json")
    return {role: _content(found.get(role) or token) for role, token in SPECIALS.items()}


def check_architecture(config: StableDiffusionConfig) -> None:
    """Raises ConfigError unless the architecture has the sub-models of the config's family."""
    needed = [*numbered("text_encoder", config), config.denoiser, "vae", "scheduler"]
    missing = [name for name in needed if name not in config.architecture]
    surplus = [n for n in ("text_encoder_2",) if n in config.architecture and n not in needed]
    if missing or surplus:
        raise ConfigError(
            f"model {config.model!r}: the architecture has {', '.join(config.architecture) or None}"
            f"; this decoder is made of {', '.join(needed)}",
            hint="stable-diffusion is 1.x and 2.x, stable-diffusion-xl XL, stable-diffusion-3 "
            "3.x; leave `architecture` out to take the model's own",
        )


def trimmed(table: Mapping[str, Any]) -> dict[str, Any]:
    """Without bookkeeping and nulls: TOML has no null, and in these files it is the default."""
    return {
        key: value
        for key, value in table.items()
        if value is not None
        and key not in NOISE
        and (not key.startswith("_") or key == "_class_name")
    }


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _content(token: Any) -> str:
    """A token is its text, or a table with the text as its content."""
    return str(token["content"] if isinstance(token, Mapping) else token)
