"""`manifest.json`: what an artefact holds, what was proved of it, and what it needs to run.

Written last, so that a folder with a manifest is whole. All paths are relative to the artefact and
stay inside it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from vlv_core.config import convert
from vlv_core.errors import ConfigError, ModelError
from vlv_core.files import write_atomically

SCHEMA = "vlv-artefact/1"
MANIFEST = "manifest.json"
RUN_HERE = ("onnx",)
"""exporters whose variants `vlv_export.runtime` runs by onnxruntime"""
ENGINES = ("rtx", "trt")
"""exporters whose variants are engines of TensorRT, which the runtime runs on the GPU that they
were built for; any other variant is another program's"""
State = Literal["proved", "built", "pending"]
"""proved: parity holds; built: an engine that nobody has run; pending: waits for its target"""


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """A file of the artefact."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """An input or output of a graph: its element type as numpy names it (or bfloat16), and its
    shape of numbers and axis names."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True)
class GraphEntry:
    """One compiled part."""

    file: str
    """relative to the artefact"""
    data: tuple[str, ...] = ()
    """files of weights beside it; they and `file` are in the manifest's `files`"""
    opset: int = 0
    inputs: tuple[TensorEntry, ...] = ()
    outputs: tuple[TensorEntry, ...] = ()
    aliases: dict[str, str] = field(default_factory=dict)
    """input -> the output that is the same buffer, updated in place"""
    shared_cache: bool = False
    """whether cache inputs and outputs are meant to be bound to one buffer"""
    joined: bool = False
    """whether a head takes prefix (batch, length, D) and tokens (batch, length) equally long: a
    token of -1 takes its row of the prefix, any other its embedding"""


@dataclass(frozen=True, kw_only=True)
class VariantEntry:
    """One compiled form of all parts."""

    exporter: str
    dtype: str
    state: State
    graphs: dict[str, GraphEntry]
    """by part; of an engine's head also `head.C`, one for each smaller capacity C"""
    waits: str = ""
    """pending: what is missing, in a sentence"""
    profiles: dict[str, list[dict[str, tuple[int, int, int]]]] = field(default_factory=dict)
    """of an engine: part -> its optimisation profiles, each axis -> least, best, most"""
    precision: dict[str, Any] = field(default_factory=dict)
    """requested, and proved: element type -> share of the weights' bytes, as found in the graphs"""
    kv: dict[str, Any] = field(default_factory=dict)
    """capacity (longest prefix + caption, tokens), dtype, bytes_per_token of a row"""
    compat: dict[str, Any] = field(default_factory=dict)
    """what it runs on: os, sm, the least version of its runtime; of an engine also `graphs`, the
    variant that it was compiled from"""
    parity: dict[str, Any] = field(default_factory=dict)
    """level -> verdict, and the worst figure"""

    @property
    def for_engines(self) -> bool:
        """Whether its graphs are those that engines are compiled from."""
        return self.exporter not in ENGINES and any(each.joined for each in self.graphs.values())

    @property
    def sm(self) -> tuple[int, ...]:
        """Of an engine: the compute capabilities that the manifest tells; it may hold anything."""
        told = self.compat.get("sm")
        return (
            tuple(x for x in told if isinstance(x, int)) if isinstance(told, list | tuple) else ()
        )

    def graph(self, part: str) -> GraphEntry:
        """Raises ModelError if the variant has no such part."""
        if part not in self.graphs:
            raise ModelError(
                f"this variant has no part {part!r}; it has {', '.join(self.graphs) or 'none'}",
                hint="export again with --reconstruct" if part != "head" else None,
            )
        return self.graphs[part]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """`manifest.json`."""

    schema: str
    created: str
    """UTC, ISO 8601"""
    tool: dict[str, str]
    packages: dict[str, str]
    host: dict[str, str]
    model: dict[str, Any]
    """name, licence, domain, and sha256 of each part's weights"""
    files: dict[str, FileEntry]
    """by path: every file but the manifest, the reports and the card"""
    variants: dict[str, VariantEntry]
    """by name"""
    default: str | None
    """name of the variant that runs if none is named; None if the runtime runs none of them"""

    def variant(self, name: str | None) -> VariantEntry:
        """One by name; the default for None. Raises ModelError as `named` does."""
        return self.variants[self.named(name)]

    def named(self, name: str | None) -> str:
        """The name of the variant that is meant: the default for None.

        Raises ModelError for an unknown name, and for None where there is no default.
        """
        wanted, there = name or self.default, ", ".join(self.variants) or "none"
        if wanted is None:
            raise ModelError(
                f"the artefact has no variant that vlv runs itself; it has {there}",
                hint="variants/NAME/README.md says what runs each; 'vlv-export MODEL --onnx' makes "
                "variants that vlv runs",
            )
        if wanted not in self.variants:
            raise ModelError(f"no variant {wanted!r}; the artefact has {there}")
        return wanted

    def file(self, path: str) -> FileEntry:
        """Raises ModelError for a path that the manifest does not know."""
        if path not in self.files:
            raise ModelError(f"{MANIFEST} does not list {path!r}")
        return self.files[path]


def read_manifest(folder: Path) -> Manifest:
    """The checked manifest. Raises ModelError or ConfigError with the file's name."""
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"{path} is missing, so {folder} is no finished artefact",
            hint="vlv-export MODEL -o OUT --onnx writes one",
        ) from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, Mapping) else None
        raise ConfigError(
            f"{path} has schema {found!r}; this version of vlv reads {SCHEMA!r}",
            hint="use the version of vlv that wrote it, or export the model again",
        )
    return convert(Manifest, dict(data), str(path))


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write it; call this last."""
    text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / MANIFEST, f"{text}\n".encode())
