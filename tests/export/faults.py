"""Faults that an artefact may have, each made on a real one."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tests.export import tiny_artefact
from vlv_export.manifest import GraphEntry, VariantEntry, read_manifest, write_manifest
from vlv_export.runtime.head import HeadStepper


def wrong_image_size(out: Path) -> None:
    """Pictures are prepared at another size than the model's."""
    path = out / "preprocess.json"
    facts = json.loads(path.read_text())
    facts["view"]["size"] += 16
    path.write_text(json.dumps(facts))
    tiny_artefact.relist(out)


def another_tokenizer(out: Path, other: str) -> None:
    """The words are those of another model."""
    (out / "tokenizer.json").write_text(other)
    tiny_artefact.relist(out)


def stale_external_data(out: Path) -> None:
    """The weights' file is that of an older export: as large, and not the same."""
    path = max((out / "variants/onnx-fp32").glob("*.data"), key=lambda each: each.stat().st_size)
    weights = np.frombuffer(path.read_bytes(), np.float32)
    path.write_bytes((weights * np.float32(1.01)).tobytes())


def sold_as_fp16(out: Path) -> None:
    """The variant onnx-fp16 holds the float32 graphs, correctly hashed and described."""
    manifest = read_manifest(out)
    engine = replace(manifest.variant("onnx-fp32"), dtype="fp16")
    change_variant(out, "onnx-fp16", engine)


def off_by_one(out: Path, *, variant: str = "onnx-fp32") -> None:
    """The head takes every position for the next one."""

    def edit(graph: onnx.GraphProto) -> None:
        insert_before(graph, "position", helper.make_node("Add", ["position", "one"], ["next"]))

    edit_graph(out, "head", edit, {"one": np.array(1, np.int64)}, variant=variant)


def stale_suffix(out: Path, *, variant: str = "onnx-fp32") -> None:
    """The head attends to one cache position beyond those in use."""

    def edit(graph: onnx.GraphProto) -> None:
        seen = [node for node in graph.node if node.op_type == "LessOrEqual"]
        assert seen, "the lowering writes its mask in another way now: mend this fault"
        for index, node in enumerate(seen):
            moved = helper.make_node("Add", [node.input[1], "one"], [f"beyond.{index}"])
            node.input[1] = f"beyond.{index}"
            graph.node.insert(list(graph.node).index(node), moved)

    edit_graph(out, "head", edit, {"one": np.array(1, np.int64)}, variant=variant)


def swapped_caches(out: Path, *, variant: str) -> None:
    """In one layer, keys are written into the cache of values and values into that of keys."""

    def edit(graph: onnx.GraphProto) -> None:
        key, value, *_ = [node for node in graph.node if node.op_type == "TensorScatter"]
        key.input[0], value.input[0] = value.input[0], key.input[0]

    edit_graph(out, "head", edit, {}, variant=variant)


def transposed_beams(
    real: Callable[[HeadStepper, NDArray[np.int64]], None], beams: int
) -> Callable[[HeadStepper, NDArray[np.int64]], None]:
    """`HeadStepper.select` with rows (pictures, beams) taken as (beams, pictures)."""

    def select(stepper: HeadStepper, rows: NDArray[np.int64]) -> None:
        if len(rows) % beams == 0:
            rows = np.ascontiguousarray(rows.reshape(-1, beams).T.reshape(-1))
        real(stepper, rows)

    return select


def other_graph(out: Path, part: str, files: Path, entry: GraphEntry) -> None:
    """The part is that of another export, correctly hashed and described."""
    home = "variants/onnx-fp32"
    for name in (entry.file, *entry.data):
        shutil.copy(files / name, out / home / name)
    manifest = read_manifest(out)
    variant = manifest.variant("onnx-fp32")
    placed = replace(
        entry, file=f"{home}/{entry.file}", data=tuple(f"{home}/{name}" for name in entry.data)
    )
    change_variant(out, "onnx-fp32", replace(variant, graphs={**variant.graphs, part: placed}))


def change_variant(out: Path, name: str, entry: VariantEntry) -> None:
    """Write it into the manifest, and list the files as they are."""
    manifest = read_manifest(out)
    write_manifest(replace(manifest, variants={**manifest.variants, name: entry}), out)
    tiny_artefact.relist(out)


def edit_graph(
    out: Path,
    part: str,
    edit: Callable[[onnx.GraphProto], None],
    constants: Mapping[str, NDArray[Any]],
    *,
    variant: str = "onnx-fp32",
) -> None:
    """Change a graph's nodes; its weights stay where they are, and the manifest agrees."""
    path = out / "variants" / variant / f"{part}.onnx"
    model = onnx.load(str(path), load_external_data=False)
    for name, array in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    edit(model.graph)
    path.write_bytes(model.SerializeToString())
    tiny_artefact.relist(out)


def insert_before(graph: onnx.GraphProto, name: str, node: onnx.NodeProto) -> None:
    """All that reads `name` reads the node's output instead."""
    for other in graph.node:
        for index, given in enumerate(other.input):
            if given == name:
                other.input[index] = node.output[0]
    graph.node.insert(0, node)
