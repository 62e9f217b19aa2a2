"""`manifest.json`: written, read back the same, and checked to its last entry."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vlv_core.errors import ConfigError, ModelError
from vlv_export.manifest import (
    SCHEMA,
    FileEntry,
    GraphEntry,
    Manifest,
    TensorEntry,
    VariantEntry,
    read_manifest,
    write_manifest,
)

HEAD = GraphEntry(
    file="variants/onnx-fp32/head.onnx",
    data=("variants/onnx-fp32/head.data",),
    opset=20,
    inputs=(TensorEntry(name="past.0.key", dtype="float16", shape=("batch", 2, "capacity", 8)),),
    outputs=(TensorEntry(name="top_ids", dtype="int64", shape=("batch", "k")),),
    aliases={"past.0.key": "present.0.key"},
    shared_cache=True,
)
ENGINE = VariantEntry(
    exporter="rtx",
    dtype="bf16",
    state="pending",
    graphs={"head": replace(HEAD, joined=True), "head.64": replace(HEAD, joined=True)},
    waits="no GPU is here",
    profiles={"head": [{"batch": (1, 8, 32), "length": (1, 1, 1)}, {"batch": (1, 1, 8)}]},
    compat={"sm": [86, 120], "graphs": "onnx24-bf16"},
)
MANIFEST = Manifest(
    schema=SCHEMA,
    created="2026-11-22T00:00:00Z",
    tool={"vlv": "0.1.0"},
    packages={"onnxruntime": "1.31.1"},
    host={"machine": "x86_64"},
    model={"name": "tiny", "licence": "Apache-2.0"},
    files={HEAD.file: FileEntry(sha256="ab", bytes=3)},
    variants={
        "onnx-fp32": VariantEntry(
            exporter="onnx", dtype="fp32", state="proved", graphs={"head": HEAD}
        ),
        "rtx-bf16-sm86+120": ENGINE,
    },
    default="onnx-fp32",
)


def altered(folder: Path, path: str, value: Any) -> Path:
    """The manifest on disk with another value at a path of keys."""
    write_manifest(MANIFEST, folder)
    data = inner = json.loads((folder / "manifest.json").read_text())
    *keys, last = path.split("/")
    for key in keys:
        inner = inner[int(key) if key.isdigit() else key]
    inner[last] = value
    (folder / "manifest.json").write_text(json.dumps(data))
    return folder


def test_it_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    write_manifest(MANIFEST, tmp_path)
    assert read_manifest(tmp_path) == MANIFEST


def test_graphs_for_engines_are_told_from_engines_and_from_other_graphs() -> None:
    assert not ENGINE.for_engines
    assert replace(ENGINE, exporter="onnx").for_engines
    assert not MANIFEST.variant("onnx-fp32").for_engines


def test_variants_parts_and_files_are_found_by_name() -> None:
    assert MANIFEST.variant(None) is MANIFEST.variant("onnx-fp32")
    assert MANIFEST.variant(None).graph("head") is HEAD
    assert MANIFEST.file(HEAD.file).bytes == 3


def test_what_is_not_there_is_told_with_what_is() -> None:
    entry = MANIFEST.variant(None)
    with pytest.raises(ModelError, match="no variant 'trt'; the artefact has onnx-fp32"):
        MANIFEST.variant("trt")
    with pytest.raises(ModelError, match="no part 'denoiser'; it has head") as told:
        entry.graph("denoiser")
    assert told.value.hint == "export again with --reconstruct"
    with pytest.raises(ModelError, match="no part 'head'") as told:
        replace(entry, graphs={}).graph("head")
    assert told.value.hint is None
    with pytest.raises(ModelError, match=r"manifest\.json does not list 'a\.onnx'"):
        MANIFEST.file("a.onnx")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("variants/onnx-fp32/state", "good", "state: expected 'proved' or 'built' or 'pending'"),
        ("variants/onnx-fp32/graphs/head/file", 3, r"graphs\.head\.file: expected text, got 3"),
        ("variants/onnx-fp32/graphs/head/opset", "20", "opset: expected an integer"),
        ("variants/onnx-fp32/graphs/head/inputs/0/shape", "b", "shape: expected a list"),
        ("variants/onnx-fp32/graphs/head/inputs/0/shape", [0.5], r"shape\[0\]"),
        (f"files/{HEAD.file.replace('/', '|')}", {"bytes": 1}, "key 'sha256' missing"),
        ("created", None, "created: expected text, got None"),
    ],
)
def test_wrong_entries_are_told_by_their_place(
    tmp_path: Path, path: str, value: Any, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        read_manifest(altered(tmp_path, path, value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", r"manifest\.json is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "has schema None; this version of vlv reads 'vlv-artefact/1'"),
        ('{"schema": "vlv-artefact/0"}', "has schema 'vlv-artefact/0'"),
        ('{"schema": "vlv-artefact/1"}', "missing"),
        ("\udcff", "is not JSON"),
    ],
)
def test_other_files_are_no_manifests(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises((ModelError, ConfigError), match=said):
        read_manifest(tmp_path)


def test_a_file_is_no_artefact(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"manifest\.json is missing, so .*file is no finished"):
        read_manifest(tmp_path / "file")
