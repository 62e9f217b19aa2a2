"""What is checked of an artefact before any of it is opened; each refusal is one sentence.

"fast" reads the small files and hashes them; weights are compared by size. "full" hashes all.
Engines are machine code, and are hashed always.
"""

from __future__ import annotations

import hashlib
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from vlv_core.errors import MissingExtra, ModelError
from vlv_core.files import contained
from vlv_core.parts import CAPTION_PARTS
from vlv_export.external_data import check_external_data
from vlv_export.facts import (
    GENERATION,
    PREPROCESS,
    TOKENIZER,
    UNCONDITIONAL,
    read_generation,
    read_preprocess,
)
from vlv_export.manifest import ENGINES, RUN_HERE, Manifest, read_manifest

if TYPE_CHECKING:
    from vlv_export.facts import Generation, Preprocess
    from vlv_export.manifest import FileEntry, GraphEntry, VariantEntry

Check = Literal["fast", "full"]
Parts = Literal["caption", "all"]

DRAWING = ("denoiser", "vae_decoder")
"""parts that `parts="caption"` never opens"""
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
"""distributions that supply the module onnxruntime"""
_CHUNK = 2**20


def check_artefact(
    folder: Path, *, variant: str | None = None, parts: Parts = "caption", check: Check = "fast"
) -> Manifest:
    """The manifest of a folder whose variant may be opened here.

    Raises MissingExtra if its runtime is absent; ModelError or ConfigError if the folder is not
    whole, was changed, or does not fit this machine.
    """
    manifest = read_manifest(folder)
    entry = manifest.variant(variant)
    _check_state(entry, name=manifest.named(variant))
    if entry.exporter in ENGINES:
        for graph in entry.graphs.values():
            contained(folder, graph.file)
        check_engines(entry, name=manifest.named(variant))
    else:
        _check_runtime(entry)
    for part in (*CAPTION_PARTS, *(DRAWING if parts == "all" else ())):
        entry.graph(part)
    files = manifest.files if check == "full" else needed_files(manifest, entry, parts=parts)
    weights = {path for graph in entry.graphs.values() for path in graph.data}
    for path in files:
        hashed = check == "full" or path not in weights
        check_file(folder, path, manifest.file(path), hashed=hashed)
    for part, graph in entry.graphs.items():
        if entry.exporter not in ENGINES and (part not in DRAWING or parts == "all"):
            _check_graph(folder, part, graph, manifest)
    facts = read_generation(folder)
    _check_generation(facts, entry, parts=parts)
    _check_sizes(read_preprocess(folder), facts, entry)
    return manifest


def needed_files(manifest: Manifest, entry: VariantEntry, *, parts: Parts) -> list[str]:
    """Paths of the files that a variant is opened from. Raises ModelError for one not listed."""
    wanted = [PREPROCESS, GENERATION, TOKENIZER]
    wanted += [path for path in manifest.files if path.startswith("prompts/")]
    if parts == "all":
        wanted.append(UNCONDITIONAL)
    for part, graph in entry.graphs.items():
        if part not in DRAWING or parts == "all":
            wanted += [graph.file, *graph.data]
    for path in wanted:
        manifest.file(path)
    return list(dict.fromkeys(wanted))


def check_file(folder: Path, name: str, entry: FileEntry, *, hashed: bool) -> None:
    """Raises ModelError if a file lies outside, is absent, or is not what the manifest says."""
    path = contained(folder, name)
    try:
        size = path.stat().st_size if path.is_file() else -1
        found = sha256_of(path) if hashed and size == entry.bytes else entry.sha256
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if size < 0:
        raise ModelError(f"{path} is missing", hint="copy the artefact again")
    if size != entry.bytes:
        raise ModelError(
            f"{path} has {size} bytes; the manifest says {entry.bytes}",
            hint="copy the artefact again",
        )
    if found != entry.sha256:
        raise ModelError(
            f"{path} was changed since it was exported: its sha256 is another",
            hint="copy the artefact again",
        )


def sha256_of(path: Path) -> str:
    """Of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _check_state(entry: VariantEntry, *, name: str) -> None:
    if entry.state == "pending":
        raise ModelError(
            f"variant {name!r} is not built yet: it waits for its target",
            hint=f"open another variant, or build it where it is to run: vlv-export build OUT "
            f"--variant {name}",
        )
    if entry.exporter not in (*RUN_HERE, *ENGINES):
        raise ModelError(
            f"variant {name!r} was made by the exporter {entry.exporter!r}; "
            f"this runtime runs those of {', '.join(map(repr, (*RUN_HERE, *ENGINES)))}"
        )


def check_engines(entry: VariantEntry, *, name: str) -> None:
    """This machine can run a variant of engines. Raises MissingExtra or ModelError."""
    from vlv_export.preflight_engines import check_device, check_host

    check_host(entry, name=name)
    from vlv_export.runtime.engine._device import find_device

    check_device(entry, find_device(), name=name)


def _check_runtime(entry: VariantEntry) -> None:
    """The installed onnxruntime must be as new as the variant needs."""
    found = runtime_version()
    least = str(entry.compat.get("onnxruntime", "0"))
    if _numbers(found) < _numbers(least):
        raise ModelError(
            f"this variant needs onnxruntime {least}, and {found} is installed",
            hint=f"pip install 'onnxruntime>={least}'",
        )


def runtime_version() -> str:
    """Of the installed onnxruntime, without importing it. Raises MissingExtra if it is absent."""
    for name in RUNTIMES:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    raise MissingExtra("onnxruntime", extra="runtime")


def _numbers(text: str) -> tuple[int, ...]:
    """ "1.20.1" or ">=1.20" -> (1, 20, 1)."""
    return tuple(map(int, re.findall(r"\d{1,9}", text)[:3]))


def _check_graph(folder: Path, part: str, graph: GraphEntry, manifest: Manifest) -> None:
    """The graph's weights are files of its own folder that the manifest lists."""
    home = PurePosixPath(graph.file).parent
    names = {_beside(path, home, part): manifest.file(path).bytes for path in graph.data}
    check_external_data(contained(folder, graph.file), names)


def _beside(path: str, home: PurePosixPath, part: str) -> str:
    """A data file as its graph names it. Raises ModelError if it is not beside the graph."""
    try:
        return PurePosixPath(path).relative_to(home).as_posix()
    except ValueError:
        raise ModelError(
            f"the weights of part {part!r} are in {path!r}, outside the graph's folder {home}",
            hint="export the model again",
        ) from None


def _check_generation(facts: Generation, entry: VariantEntry, *, parts: Parts) -> None:
    """The small files and the variant must speak of one model."""
    capacity = entry.kv.get("capacity", facts.max_length)
    # A cache of fixed length is smaller than the model allows, and the runtime keeps to it.
    joined = any(each.joined for each in entry.graphs.values())
    least = facts.prefix_length + 1 if joined else facts.max_length
    if not isinstance(capacity, int) or capacity < least:
        raise ModelError(
            f"{GENERATION} promises {least} tokens, and the variant's cache holds {capacity!r}",
            hint="export the model again",
        )
    if parts == "all" and (facts.latent_shape is None or facts.schedule is None):
        raise ModelError(
            f"{GENERATION} has no latent_shape or no schedule, so the artefact cannot draw",
            hint="export again with --reconstruct",
        )


def _check_sizes(preprocess: Preprocess, facts: Generation, entry: VariantEntry) -> None:
    """What the small files say of sizes must be what the graphs take and give."""
    latents = None if facts.latent_shape is None else list(facts.latent_shape)
    for part, name, axes, said in (
        ("encoder", "view", slice(1, 2), [preprocess.pixels.size]),
        ("encoder", "prefix", slice(1, 3), [facts.prefix_length, facts.dim]),
        ("head", "prefix", slice(2, 3), [facts.dim]),
        ("head", "logits", slice(1, 2), [facts.vocab_size]),
        ("denoiser", "latents", slice(1, 4), latents),
    ):
        found = _shape(entry, part, name)[axes]
        if found and said and found != said:
            raise ModelError(
                f"part {part!r} has {found} where its small files say {said} (of {name!r})",
                hint="copy the artefact again",
            )


def _shape(entry: VariantEntry, part: str, name: str) -> list[int | str]:
    """Of an input or output; empty if the variant has none of the name."""
    graph = entry.graphs.get(part)
    tensors = () if graph is None else (*graph.inputs, *graph.outputs)
    return next((list(each.shape) for each in tensors if each.name == name), [])
