"""Checkpoints: trainables, optimiser and cursors; atomic, verified, nothing pickled.

    checkpoints/step-00000200/
        weights.safetensors optimizer.safetensors [ema.safetensors] state.json
        manifest.json       sha256 of the others, written last

Randomness and data order are functions of the step, so that the step is their whole state.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Parameter

from vlv_core.errors import ConfigError, ModelError

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"
FREE = frozenset(
    {"cache", "cache_gib", "checkpoint_every", "keep_checkpoints", "log_every", "strip_every"}
    | {"workers", "domain", "licence", "summary"}
)
"""last words of recipe keys that a resume may change: they do not touch the weights"""


@dataclass
class Checkpoint:
    """What a training is after `step` updates."""

    step: int
    identity: dict[str, Any]
    """the flat recipe: a checkpoint of another recipe is refused"""
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    ema: dict[str, Tensor] = field(default_factory=dict)


def save(checkpoint: Checkpoint, folder: Path, *, keep: int) -> Path:
    """Write `folder/step-N`, then drop all but the newest `keep`. Killed at any moment, it leaves
    the earlier checkpoints and no half one under a valid name."""
    final = folder / f"step-{checkpoint.step:08d}"
    temporary = folder / f".writing-{final.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in ("weights", "optimizer", "ema"):
        tensors = getattr(checkpoint, name)
        if tensors or name == "weights":
            save_file(_plain(tensors), temporary / f"{name}.safetensors")
    state = {"schema": 1, "step": checkpoint.step, "identity": checkpoint.identity}
    (temporary / "state.json").write_text(json.dumps(state, indent=2))
    files = {path.name: _digest(path) for path in sorted(temporary.iterdir())}
    (temporary / MANIFEST).write_text(json.dumps({"sha256": files}, indent=2))
    for path in temporary.iterdir():
        _sync(path)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    _sync(folder)
    # later ones are of a future that a resume gave up; kept, they would outrank this one
    later = [path for path in steps(folder) if path.name > final.name]
    for old in later + steps(folder)[len(later) + max(1, keep) :]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def steps(folder: Path) -> list[Path]:
    """Finished checkpoints, damaged ones among them, newest first."""
    return sorted(folder.glob("step-*"), reverse=True) if folder.is_dir() else []


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint whose every byte is as written; damaged ones are named and passed by.

    None if there is no valid one.
    """
    for path in steps(folder):
        problem = verify(path)
        if problem is None:
            return load(path)
        log.warning("checkpoint %s is damaged and passed by: %s", path, problem)
    return None


def verify(path: Path) -> str | None:
    """What is wrong with the checkpoint at `path`, or None."""
    try:
        files = json.loads((path / MANIFEST).read_text())["sha256"]
        for name, digest in files.items():
            if _digest(path / name) != digest:
                return f"{name} differs from its checksum"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return None if {"weights.safetensors", "state.json"} <= set(files) else "files are missing"


def check_identity(found: Mapping[str, Any], wanted: Mapping[str, Any], *, folder: Path) -> None:
    """Raises ConfigError naming every key in which the checkpoint's recipe differs."""
    plain = json.loads(json.dumps(wanted))
    differing = sorted(
        key
        for key in {*found, *plain}
        if found.get(key, _ABSENT) != plain.get(key, _ABSENT) and key.rpartition(".")[2] not in FREE
    )
    if not differing:
        return
    lines = [f"{key}: {found.get(key)!r} there, {plain.get(key)!r} here" for key in differing]
    raise ConfigError(
        f"the checkpoint in '{folder}' belongs to another recipe: {'; '.join(lines)}",
        hint="resume with the recipe it was made with, or start afresh in another run folder",
    )


def copy_weights(weights: Mapping[str, Tensor], named: Sequence[tuple[str, Parameter]]) -> None:
    """Copy a checkpoint's weights into the parameters. Strict: raises ModelError on any other."""
    wanted = {name: tuple(parameter.shape) for name, parameter in named}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wanted != found:
        missing, unexpected = sorted(wanted.keys() - found), sorted(found.keys() - wanted)
        resized = [n for n in sorted(wanted.keys() & found) if wanted[n] != found[n]]
        raise ModelError(
            f"the checkpoint does not fit: missing {missing}, unexpected {unexpected}, "
            f"of another shape {resized}"
        )
    for name, parameter in named:
        parameter.data.copy_(weights[name])


_ABSENT = object()


def load(path: Path) -> Checkpoint:
    """A checkpoint that `verify` finds nothing wrong with."""
    state = json.loads((path / "state.json").read_text())
    tables = {name: _read(path / f"{name}.safetensors") for name in ("weights", "optimizer", "ema")}
    return Checkpoint(step=state["step"], identity=state["identity"], **tables)


def _read(path: Path) -> dict[str, Tensor]:
    return load_file(path) if path.exists() else {}


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
