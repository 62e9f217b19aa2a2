"""What a recipe leaves to the published model: its architecture, and the tokens that end a text.

Read from a shipped preset, from config.json and its neighbours, or from a GGUF's metadata.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlv_core import Source
from vlv_core.errors import ModelError
from vlv_plugins._hub import preset, read_json
from vlv_plugins.causal_lm.config import DESCRIPTION, CausalLmConfig, gguf_pattern

PACKAGE = "vlv_plugins.causal_lm"
NOT_ARCHITECTURE = {
    *("_name_or_path", "_model_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype"),
    *("quantization_config", "transformers_version", "use_cache"),
}
"""keys of a config.json that describe a file, or how it was run, and not the model"""


def complete(config: CausalLmConfig, fetch: Callable[[Source], Path]) -> CausalLmConfig:
    """Fill `architecture`, `eos`, and for a folder that holds one GGUF alone, `gguf`.

    Raises ModelError if the model's description cannot be had.
    """
    if not config.architecture:
        config = _described(config, fetch)
    return replace(config, eos=config.eos or tokens_of(config.architecture.get("eos_token_id")))


def ends_of_text(folder: Path) -> tuple[int, ...]:
    """All tokens that any of the folder's files calls an end of text.

    What generation_config.json names first is first; then come config.json and the tokenizer's.
    """
    named: list[int] = []
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file():
            named += tokens_of(read_json(folder / name).get("eos_token_id"))
    if (folder / "tokenizer_config.json").is_file():
        named += _tokenizers_own(read_json(folder / "tokenizer_config.json"))
    return tuple(dict.fromkeys(named))


def gguf_file(folder: Path, pattern: str) -> Path | None:
    """The one GGUF file of a folder; None if it holds safetensors, or nothing.

    Raises ModelError if several match, or none where a pattern was given.
    """
    if not pattern and any(folder.glob("model*.safetensors")):
        return None
    found = sorted(folder.glob(pattern or "*.gguf"))
    if len(found) > 1:
        raise ModelError(
            f"'{folder}' holds several GGUF files: {', '.join(path.name for path in found)}",
            hint="set gguf to the name of one of them",
        )
    if pattern and not found:
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:20])
        raise ModelError(
            f"'{folder}' has no file {pattern!r}; it has {there or 'nothing'}",
            hint="set gguf to the file's name, or leave it out to read safetensors",
        )
    return found[0] if found else None


def plain(published: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json as TOML can hold it: without nulls, which are the library's defaults anyway."""
    return {
        key: plain(value) if isinstance(value, Mapping) else value
        for key, value in published.items()
        if value is not None and key not in NOT_ARCHITECTURE
    }


def tokens_of(value: int | Iterable[int] | None) -> tuple[int, ...]:
    """`eos_token_id` is absent, one token, or several."""
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)


def _described(config: CausalLmConfig, fetch: Callable[[Source], Path]) -> CausalLmConfig:
    """The config with an architecture, by the first of preset and files that knows it."""
    shipped = preset(PACKAGE, config.model)
    if shipped is not None:
        return replace(config, architecture=shipped)
    pattern = gguf_pattern(config)
    files = (pattern,) if pattern else DESCRIPTION
    folder = fetch(Source(location=config.model, files=files))
    file = None if (folder / "config.json").is_file() else gguf_file(folder, pattern)
    if file is not None:
        from vlv_plugins.causal_lm import _gguf

        architecture, eos = _gguf.describe(file)
        return replace(config, architecture=architecture, gguf=file.name, eos=config.eos or eos)
    published = plain(read_json(folder / "config.json"))
    return replace(config, architecture=published, eos=config.eos or ends_of_text(folder))


def _tokenizers_own(tokenizer_config: Mapping[str, Any]) -> list[int]:
    """The id of `eos_token`, where the tokenizer's config lists its added tokens by id."""
    token = tokenizer_config.get("eos_token")
    text = token.get("content") if isinstance(token, Mapping) else token
    added = tokenizer_config.get("added_tokens_decoder", {})
    return [int(number) for number, entry in added.items() if entry.get("content") == text]
