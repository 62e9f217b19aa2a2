"""Checkpoint files -> tensors by name. Only tensors are read: no pickled object is ever built."""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vlv_core.errors import ModelError
from vlv_core.files import contained
from vlv_plugins._hub import read_json

WRAPPERS = ("model_state_dict", "state_dict", "model", "module")
"""keys under which trainers store the state dict"""
PREFIXES = ("module.", "_orig_mod.")
"""what data-parallel training and compilation put before every name"""
TORCH = (".bin", ".pt", ".pth")
SUFFIXES = (".safetensors", *TORCH)
INDEX = ".index.json"
AGAIN = "copy or download it again: it may be cut short, or of another kind than its name says"
_OBJECT = re.compile(r"GLOBAL ([\w.]+)")
"""the class or function that torch's message names"""
_USUAL = (
    *("model.safetensors.index.json", "model.safetensors"),
    *("pytorch_model.bin.index.json", "pytorch_model.bin"),
)
_OTHERS = ("optimizer", "scheduler", "random_states", "rng_state", "training_args", "scaler")
"""beginnings of files that trainers put beside the weights"""


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a checkpoint by their names, prefixes of trainers removed."""

    file: Path
    tensors: dict[str, Tensor]
    wrapper: str = ""
    """the key that the state dict was under"""
    keys: dict[str, str] = field(default_factory=dict)
    """name -> the key as the file has it"""
    others: dict[str, str] = field(default_factory=dict)
    """keys that are no weights -> why they are not used"""


def read_checkpoint(path: Path) -> Checkpoint:
    """A safetensors, .bin, .pt or .pth file, an index of shards, or the folder that holds one.

    Raises ModelError for a file of another kind, a damaged one, one that holds more than tensors
    and plain values, and for a folder without a checkpoint or with several.
    """
    file = _find(path) if path.is_dir() else path
    if file.name.endswith(INDEX):
        return _plain(file, _load_shards(file))
    return _plain(file, _load(file))


def _plain(file: Path, loaded: Mapping[str, Any]) -> Checkpoint:
    inner, wrapper, others = loaded, "", {}
    for key in WRAPPERS:
        if isinstance(found := loaded.get(key), Mapping) and found:
            inner, wrapper = found, key
            others = {str(k): "beside the state dict" for k in loaded if k != key}
            break
    keys, tensors = {}, {}
    for key, value in inner.items():
        if isinstance(value, Tensor):
            name = _bare(str(key))
            keys[name], tensors[name] = str(key), value
        else:
            others[str(key)] = "not a tensor"
    if not tensors:
        raise ModelError(
            f"{file} holds no tensors; it has {', '.join(map(str, list(loaded)[:8])) or 'nothing'}",
            hint=f"the state dict must stand alone, or under one of {', '.join(WRAPPERS)}",
        )
    return Checkpoint(file, tensors, wrapper, keys, others)


def _bare(key: str) -> str:
    while start := next((prefix for prefix in PREFIXES if key.startswith(prefix)), None):
        key = key.removeprefix(start)
    return key


def _find(folder: Path) -> Path:
    for name in _USUAL:
        if (folder / name).is_file():
            return folder / name
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(_OTHERS)
    ]
    if len(found) == 1:
        return found[0]
    indices = [path for path in sorted(folder.iterdir()) if path.name.endswith(INDEX)]
    if len(indices) == 1:
        return indices[0]
    there = ", ".join(sorted(path.name for path in found or folder.iterdir())[:12]) or "nothing"
    raise ModelError(
        f"'{folder}' has {'several checkpoints' if found else 'no checkpoint'}: {there}",
        hint=f"name the file itself; known: {', '.join(SUFFIXES)}",
    )


def _load_shards(index: Path) -> Mapping[str, Any]:
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, Mapping) or not listed:
        raise ModelError(
            f"{index} has no 'weight_map', which says in which file each tensor is",
            hint="copy it again, or name a file that holds the whole state dict",
        )
    whole: dict[str, Any] = {}
    for shard in sorted(set(listed.values())):
        whole |= _load(contained(index.parent, shard))
    if absent := sorted(set(listed) - set(whole)):
        raise ModelError(
            f"{index} lists {', '.join(absent[:8])}, but no file that it names holds "
            f"{'it' if len(absent) == 1 else f'these {len(absent)}'}",
            hint="copy the index and its files again",
        )
    return whole


def _load(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        raise ModelError(f"{file} is missing")
    kind = file.suffix.lower()
    if kind == ".safetensors":
        try:
            return load_file(file)
        except SafetensorError as error:
            raise ModelError(f"{file} is no safetensors file: {error}", hint=AGAIN) from error
    if kind not in TORCH:
        raise ModelError(
            f"{file} is of an unknown kind; known: {', '.join(SUFFIXES)}",
            hint="rename it if it is one of them",
        )
    loaded = _load_torch(file)
    if not isinstance(loaded, Mapping):
        raise ModelError(f"{file} holds a {type(loaded).__name__}, but a state dict is due")
    return loaded


def _load_torch(file: Path) -> Any:
    """Mapped into memory where the format allows it, so that only what is used is read."""
    with file.open("rb") as stream:
        zipped = stream.read(4) == b"PK\x03\x04"
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        found = _OBJECT.search(str(error))
        raise ModelError(
            f"{file} holds more than tensors and plain values, so it was not read"
            + (f": it asks for {found[1]}" if found else ""),
            hint="have its owner save the state dict alone, best as safetensors",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        said = f"{file} is no checkpoint of torch: {_first_sentence(error)}"
        raise ModelError(said, hint=AGAIN) from error


def _first_sentence(error: Exception) -> str:
    """Without the library's advice, which is to read the file in a way that runs its code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].partition(". ")[0] if lines else type(error).__name__
