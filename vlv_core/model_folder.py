"""Model folders: `model.toml`, one safetensors file a part, tokenizers in a folder a part.

    model.toml            schema, name, licence, domain, view, and every part's plugin, config, and
                          file, or source, or a source and a file of what training changed
    encoder.safetensors   ...one for each of `model.PARTS`
    head/tokenizer.json   what a part keeps beside its weights

Nothing is unpickled; files are named by the manifest, stay inside the folder, and are hashed.
"""

import hashlib
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
import torch
from torch import Tensor, nn

from vlv_core.captioner import Captioner
from vlv_core.compose import ROLES, Choice, choose, compose
from vlv_core.config import convert, to_dict
from vlv_core.errors import ConfigError, ModelError
from vlv_core.files import contained, write_atomically
from vlv_core.hub import fetch
from vlv_core.loading import find_model
from vlv_core.model import PARTS, VLV
from vlv_core.origins import MODEL, Origin, check_source
from vlv_core.plugins import load_plugins
from vlv_core.registry import Plugins
from vlv_core.specs import OpenOptions, Source, View
from vlv_core.weights import (
    assign,
    check_sha256,
    distinct,
    materialise,
    read,
    sha256_of,
    skeleton,
    write,
)

SCHEMA = "vlv-model/1"
MANIFEST = "model.toml"
ROLE_OF = {"condition": "decoder", "diffusion": "decoder"}
"""role of the parts that are not called after it"""


@dataclass(frozen=True, kw_only=True)
class SourceEntry:
    """Where weights are that the folder does not hold."""

    location: str
    """`model:NAME`, `package:NAME` or a repository id"""
    revision: str | None = None
    """commit of a repository"""
    files: tuple[str, ...] = ()
    sha256: str
    """of the files that match; of a bundled model, the digest of its entry"""


@dataclass(frozen=True, kw_only=True)
class PartEntry:
    """One part in `model.toml`."""

    plugin: str
    config: dict[str, Any] = field(default_factory=dict)
    """fully resolved"""
    source: SourceEntry | None = None
    file: str = ""
    """tensors; beside a source those that it lacks, or that training changed"""
    sha256: str = ""
    assets: dict[str, str] = field(default_factory=dict)
    """file in the part's own folder -> sha256"""

    def __post_init__(self) -> None:
        if not self.file and self.source is None:
            raise ConfigError("neither file nor source says where the weights are")

    @property
    def digest(self) -> str:
        """Of all weights, wherever they are."""
        return self.sha256 if self.source is None else _digest(self.sha256 + self.source.sha256)


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
    origins: Mapping[str, Origin] | None = None,
    trained: Collection[str] = (),
) -> None:
    """Write the model; `model.toml` comes last, so that a killed save leaves no valid folder.

    `dtype` is that of floating-point weights on disk; loading brings them back to float32. Weights
    that a portable one of `origins` filled go by source, except `trained` ones (names in the VLV).
    """
    said = {"name": name, "licence": licence, "domain": domain, "training": dict(training or {})}
    save_parts(
        dict(model.parts()),
        folder,
        choices=choices,
        view=model.view,
        said=said,
        dtype=dtype,
        origins=origins,
        trained=trained,
    )


def save_parts(
    parts: Mapping[str, nn.Module],
    folder: Path,
    *,
    choices: Mapping[str, Choice],
    view: View,
    said: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
    origins: Mapping[str, Origin] | None = None,
    trained: Collection[str] = (),
) -> None:
    """Write some parts as a folder that recipes may take `weights` from.

    `said` is what the manifest says beside view and parts; `name` at least.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    entries = {}
    for part, module in parts.items():
        choice, origin = choices[ROLE_OF.get(part, part)], (origins or {}).get(part)
        changed = {name.removeprefix(f"{part}.") for name in trained}
        entries[part] = {
            "plugin": choice.spec.name,
            "config": {} if choice.config is None else to_dict(choice.config),
            **_save_weights(module, folder / f"{part}.safetensors", origin, changed, dtype=dtype),
            "assets": _save_assets(module, folder / part),
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
    with skeleton():
        model = compose(choices, view=manifest.view, diffusion=diffusion)
    for part, module in model.parts():
        load_part(module, folder, part, entries[part], plugins=plugins)
    return model.eval(), choices


def load_part(
    module: nn.Module, folder: Path, part: str, entry: PartEntry, *, plugins: Plugins
) -> None:
    """Put a folder's weights and assets into a module of the same shape, strictly."""
    weights = read(contained(folder, entry.file), entry.sha256) if entry.file else {}
    if entry.source is not None:
        materialise(module)
        filled = _load_source(module, folder, part, entry.source, plugins=plugins)
        _check_covered(part, set(distinct(module)) - filled - set(weights))
    if entry.file:
        assign(module, weights, part=part, partly=entry.source is not None)
    if entry.assets:
        for name, digest in entry.assets.items():
            check_sha256(contained(folder, f"{part}/{name}"), digest)
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
    model.requires_grad_(False)
    if hasattr(model.head, "fold"):
        # In the weights' own type, before they are rounded.
        model.head.fold()
    model.to(pick_device(options.device), pick_dtype(options.dtype))
    digest = sha256_of(folder / MANIFEST)[:12]
    return Captioner(
        TorchBackend(model),
        name=f"{manifest.name}@{digest}",
        domain=manifest.domain,
        view=manifest.view,
    )


def _load_source(
    module: Any, folder: Path, part: str, source: SourceEntry, *, plugins: Plugins
) -> set[str]:
    """Fill a module from where its manifest says; the names that were filled."""
    if source.location.startswith(MODEL):
        other = find_model(source.location.removeprefix(MODEL), plugins=plugins)
        entry = read_manifest(other).entry(part)
        if entry.digest != source.sha256:
            raise ModelError(
                f"{part}: {source.location!r} holds other weights than when this model was made",
                hint="install the version of vlv that this model was made with",
            )
        load_part(module, other, part, entry, plugins=plugins)
        return set(distinct(module))
    wanted = Source(source.location, revision=source.revision, files=source.files)
    found = fetch(wanted, root=folder).folder
    check_source(wanted, source.sha256, found, part=part)
    return set(module.load_pretrained(found))


def _check_covered(part: str, missing: Collection[str]) -> None:
    if missing:
        raise ModelError(f"{part}: neither the source nor the file has {sorted(missing)}")


def _save_weights(
    module: nn.Module,
    file: Path,
    origin: Origin | None,
    changed: Collection[str],
    *,
    dtype: torch.dtype,
) -> dict[str, Any]:
    """Write the tensors that no portable source has; the manifest's keys that say where all are."""
    tensors: Mapping[str, Tensor] = distinct(module)
    told: dict[str, Any] = {}
    if origin is not None and origin.portable and origin.filled - set(changed):
        kept = origin.filled - set(changed)
        tensors = {name: tensor for name, tensor in tensors.items() if name not in kept}
        source = SourceEntry(
            location=origin.source.location,
            revision=origin.source.revision,
            files=origin.source.files,
            sha256=origin.sha256,
        )
        told["source"] = to_dict(source)
    if tensors:
        told |= {"file": file.name, "sha256": write(tensors, file, dtype=dtype)}
    else:
        file.unlink(missing_ok=True)
    return told


def _save_assets(module: nn.Module, folder: Path) -> dict[str, str]:
    if not hasattr(module, "save_assets"):
        return {}
    folder.mkdir(exist_ok=True)
    module.save_assets(folder)  # type: ignore[operator]
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
