"""What the families of real models share: configurations, weights and tokenizers from files.

Everything here reads local folders; `vlv_core.hub` has fetched them. Weights are safetensors.
"""

import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn

from vlv_core.errors import ConfigError, ModelError, nearest
from vlv_core.hub import one_file

END_OF_TEXT = "<|endoftext|>"
AGAIN = "fetch or copy the model again"


def presets(package: str) -> list[str]:
    """Names of the published models whose configuration a family's package carries."""
    folder = files(package) / "presets"
    return sorted(
        path.name.removesuffix(".json").replace("--", "/")
        for path in folder.iterdir()
        if path.name.endswith(".json")
    )


def preset(package: str, name: str) -> dict[str, Any] | None:
    """The configuration of a published model, `presets/OWNER--NAME.json`; None if not carried."""
    if name not in presets(package):
        return None
    path = files(package) / "presets" / f"{name.replace('/', '--')}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """Raises ModelError with the file's name if it is missing or is not a JSON object."""
    try:
        table = json.loads(one_file(path.parent, path.name).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} is not JSON: {error}", hint=AGAIN) from error
    if not isinstance(table, dict):
        raise ModelError(f"{path} holds no JSON object, but {table!r:.40}", hint=AGAIN)
    return table


def read_weights(folder: Path, *stems: str) -> dict[str, Tensor]:
    """Tensors of STEM.safetensors, or of the shards that STEM.safetensors.index.json lists.

    The first stem that exists counts, such as "diffusion_pytorch_model". Raises ModelError if none
    does, or a shard is missing or damaged.
    """
    names = [f"{stem}.safetensors{suffix}" for stem in stems for suffix in ("", ".index.json")]
    found = one_file(folder, *names)
    if found.suffix == ".safetensors":
        return _read_file(found)
    tensors: dict[str, Tensor] = {}
    for shard in _shards(found):
        tensors |= _read_file(one_file(folder, shard))
    return tensors


def fill(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    where: str,
    ignore: Iterable[str] = (),
) -> set[str]:
    """Put all tensors into a module, in float32; answers the names that they filled.

    Strict: names that the module lacks and names that the tensors lack are an error which lists
    them, unless they start with an entry of `ignore`. Tied weights may be there once. Raises
    ModelError, also for another shape.
    """
    expected, skipped = module.state_dict(keep_vars=True), tuple(ignore)
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(skipped)}
    given = {id(expected[name]) for name in tensors if name in expected}
    missing = sorted(
        name
        for name, tensor in expected.items()
        if name not in tensors and id(tensor) not in given and not name.startswith(skipped)
    )
    unexpected = sorted(set(tensors) - set(expected))
    if missing or unexpected:
        raise ModelError(
            f"{where}: the weights do not fit; missing: {_some(missing)}; "
            f"unexpected: {_some(unexpected)}",
            hint="is this the model whose configuration the recipe names?",
        )
    with torch.no_grad():
        for name, tensor in tensors.items():
            if tensor.shape != expected[name].shape:
                raise ModelError(
                    f"{where}: {name!r} is {tuple(tensor.shape)} in the file, "
                    f"but {tuple(expected[name].shape)} by the configuration"
                )
            expected[name].copy_(tensor)
    return {name for name, tensor in expected.items() if name in tensors or id(tensor) in given}


def known_class(name: str, known: Mapping[str, Any], *, where: str) -> Any:
    """`known[name]`. Raises ConfigError that lists what is known."""
    if name not in known:
        raise ConfigError(
            f"{where}: {name!r} is not supported{nearest(name, known)}; known: {', '.join(known)}"
        )
    return known[name]


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json. Raises ModelError if it is missing or damaged."""
    path = one_file(path.parent, path.name)
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no narrower class
        raise ModelError(
            f"{path} is no tokenizer: {error}", hint="copy or fetch the folder again"
        ) from error


def byte_tokenizer() -> Tokenizer:
    """One token a byte, id = byte value, and END_OF_TEXT as 256: for random weights without files.

    Any text goes in and comes out again; every language model's vocabulary is larger.
    """
    symbols = _byte_symbols()
    tokenizer = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(symbols)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True)])
    return tokenizer


def _byte_symbols() -> list[str]:
    """The printable stand-in of each byte in byte-level BPE (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(b) if b in plain else chr(256 + others.index(b)) for b in range(256)]


def _shards(index: Path) -> list[str]:
    """Names of the files that an index lists.

    They are plain names, and that is all that is checked: the hub's cache holds every file as a
    link to a place outside the folder.
    """
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict):
        raise ModelError(f"{index} has no 'weight_map', so it lists no files", hint=AGAIN)
    shards = sorted(set(table.values()))
    if strange := [shard for shard in shards if Path(shard).name != shard]:
        raise ModelError(
            f"{index} lists {strange[0]!r}, which would lie outside its folder",
            hint="do not trust this folder",
        )
    return shards


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{path} is no safetensors file: {error}", hint=AGAIN) from error


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:12])
    return (shown + f", ... ({len(names)} in all)" if len(names) > 12 else shown) or "none"
