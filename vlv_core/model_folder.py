"""Model folders: `model.toml`, one safetensors file a part, tokenizers in a folder a part.

    model.toml            schema, name, licence, domain, view, and every part's plugin, config, file
    encoder.safetensors   ...one for each of `model.PARTS`
    head/tokenizer.json   what a part keeps beside its weights

Nothing is unpickled; files are named by the manifest, stay inside the folder, and are hashed.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from vlv_core.captioner import Captioner
from vlv_core.compose import ROLES, Choice, choose, compose
from vlv_core.config import convert, to_dict
from vlv_core.errors import ModelError
from vlv_core.files import contained, write_atomically
from vlv_core.model import PARTS, VLV
from vlv_core.plugins import load_plugins
from vlv_core.registry import Plugins
from vlv_core.specs import OpenOptions, View

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA = "vlv-model/1"
MANIFEST = "model.toml"
ROLE_OF = {"condition": "decoder", "diffusion": "decoder"}
"""role of the parts that are not called after it"""


@dataclass(frozen=True, kw_only=True)
class PartEntry:
    """One part in `model.toml`."""

    plugin: str
    config: dict[str, Any] = field(default_factory=dict)
    """fully resolved"""
    file: str
    sha256: str
    assets: dict[str, str] = field(default_factory=dict)
    """file in the part's own folder -> sha256"""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """`model.toml`."""

    schema: str
    name: str
    licence: str = ""
    domain: str = ""
    view: View
    parts: dict[str, Any]
    """part -> PartEntry"""
    training: dict[str, Any] = field(default_factory=dict)
    """where the weights come from: recipe, seed, steps"""

    def entry(self, part: str) -> PartEntry:
        """Raises ModelError if the folder does not hold the part."""
        if part not in self.parts:
            raise ModelError(
                f"model {self.name!r} has no part {part!r}; it has {', '.join(self.parts)}"
            )
        return convert(PartEntry, self.parts[part], f"{MANIFEST}: parts.{part}")


def save_model(
    model: VLV,
    folder: Path,
    *,
    choices: Mapping[str, Choice],
    name: str,
    licence: str = "",
    domain: str = "",
    training: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write the model; `model.toml` comes last, so that a killed save leaves no valid folder.

    `dtype` is that of floating-point weights on disk; loading brings them back to float32.
    """
    said = {"name": name, "licence": licence, "domain": domain, "training": dict(training or {})}
    parts = dict(model.parts())
    save_parts(parts, folder, choices=choices, view=model.view, said=said, dtype=dtype)


def save_parts(
    parts: Mapping[str, nn.Module],
    folder: Path,
    *,
    choices: Mapping[str, Choice],
    view: View,
    said: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write some parts as a folder that recipes may take `weights` from.

    `said` is what the manifest says beside view and parts; `name` at least.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    entries = {
        part: _save_part(module, folder, part, choices[ROLE_OF.get(part, part)], dtype=dtype)
        for part, module in parts.items()
    }
    manifest = {"schema": SCHEMA, **said, "view": to_dict(view), "parts": entries}
    write_atomically(folder / MANIFEST, tomli_w.dumps(manifest).encode())


def read_manifest(folder: Path) -> Manifest:
    """The checked manifest. Raises ModelError or ConfigError with the file's name."""
    path = folder / MANIFEST
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing, so {folder} is no model") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not TOML: {error}") from error
    if data.get("schema") != SCHEMA:
        raise ModelError(
            f"{path} has schema {data.get('schema')!r}; this version of vlv reads {SCHEMA!r}",
            hint="use the version of vlv that wrote it, or save the model again",
        )
    return convert(Manifest, data, str(path))


def load_model(
    folder: Path, *, plugins: Plugins, diffusion: bool = True
) -> tuple[VLV, dict[str, Choice]]:
    """The composed model with its weights, in eval mode, and the choices it was built from.

    Raises ModelError for missing parts, missing or changed files, and for weights that do not fit
    the code.
    """
    manifest = read_manifest(folder)
    wanted = [part for part in PARTS if part != "diffusion" or diffusion]
    entries = {part: manifest.entry(part) for part in wanted}
    named = {ROLE_OF.get(part, part): entry for part, entry in entries.items()}
    choices = {
        role: choose(role, named[role].plugin, named[role].config, plugins=plugins)
        for role in ROLES
    }
    with torch.device("meta"):
        model = compose(choices, view=manifest.view, diffusion=diffusion)
    for part, module in model.parts():
        load_part(module, folder, part, entries[part])
    return model.eval(), choices


def load_part(module: nn.Module, folder: Path, part: str, entry: PartEntry) -> None:
    """Put a folder's weights and assets into a module of the same shape, strictly."""
    weights = _read_weights(contained(folder, entry.file), entry.sha256)
    expected = module.state_dict()
    _check_keys(part, expected, weights)
    for key, tensor in weights.items():
        if tensor.shape != expected[key].shape:
            raise ModelError(
                f"{part}: {key!r} is {tuple(tensor.shape)} in {entry.file}, "
                f"but {tuple(expected[key].shape)} in the code"
            )
        if tensor.is_floating_point():
            weights[key] = tensor.float()
    module.load_state_dict(weights, assign=True)
    if entry.assets:
        for name, digest in entry.assets.items():
            _check_hash(contained(folder, f"{part}/{name}"), digest)
        module.load_assets(folder / part)  # type: ignore[operator]


def open_model(folder: Path, options: OpenOptions) -> Captioner:
    """The opener of `model.toml`."""
    from vlv_core.torch_backend import TorchBackend, pick_device, pick_dtype

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    manifest = read_manifest(folder)
    model, _ = load_model(
        folder, plugins=options.plugins or load_plugins(), diffusion=options.parts == "all"
    )
    model.to(pick_device(options.device), pick_dtype(options.dtype)).requires_grad_(False)
    digest = _digest((folder / MANIFEST).read_bytes())[:12]
    return Captioner(
        TorchBackend(model),
        name=f"{manifest.name}@{digest}",
        domain=manifest.domain,
        view=manifest.view,
    )


def _save_part(
    module: nn.Module,
    folder: Path,
    part: str,
    choice: Choice,
    *,
    dtype: torch.dtype,
) -> dict[str, Any]:
    weights = {
        key: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous().cpu()
        for key, tensor in module.state_dict().items()
    }
    file = folder / f"{part}.safetensors"
    write_atomically(file, save(weights))
    return {
        "plugin": choice.spec.name,
        "config": {} if choice.config is None else to_dict(choice.config),
        "file": file.name,
        "sha256": _digest(file.read_bytes()),
        "assets": _save_assets(module, folder / part),
    }


def _save_assets(module: nn.Module, folder: Path) -> dict[str, str]:
    if not hasattr(module, "save_assets"):
        return {}
    folder.mkdir(exist_ok=True)
    module.save_assets(folder)  # type: ignore[operator]
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _digest(path.read_bytes()) for path in files}


def _read_weights(file: Path, digest: str) -> dict[str, torch.Tensor]:
    _check_hash(file, digest)
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ModelError(f"{file} is no safetensors file: {error}") from error


def _check_hash(file: Path, digest: str) -> None:
    if not file.is_file():
        raise ModelError(f"{file} is missing", hint="copy the model folder again")
    if _digest(file.read_bytes()) != digest:
        raise ModelError(
            f"{file} is not the file that {MANIFEST} describes (its sha256 differs)",
            hint="copy the model folder again",
        )


def _check_keys(part: str, expected: Mapping[str, Any], found: "Iterable[str]") -> None:
    missing, unexpected = set(expected) - set(found), set(found) - set(expected)
    if missing or unexpected:
        raise ModelError(
            f"{part}: the weights do not fit the code; missing: {sorted(missing) or 'none'}; "
            f"unexpected: {sorted(unexpected) or 'none'}"
        )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
