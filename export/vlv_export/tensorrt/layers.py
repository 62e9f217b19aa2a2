"""What is inside an engine: its layers with their element types, and the proof of its precision.

A compiler tells of an engine's layers in two ways: `EngineInspector`, which needs a GPU, as JSON;
and, while it builds with verbose messages, as text of the same content. `parse_message` turns the
text into the JSON's form, so that `layers.json` and `read_layers` know one form only.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from vlv_core.errors import ModelError

MESSAGE = "Layers:\n"
"""how the verbose message with an engine's layers begins"""
_SECTIONS = re.compile(
    r", (LayerType|Inputs|Constants|Outputs|TacticName|StreamId|Metadata): ", re.ASCII
)
_TENSOR = re.compile(
    r"\{ Name: (?P<name>.+?), (?=[A-Z]\w*: )[^{]*?Dimensions: \[(?P<shape>[-\d, ]*)\][^{]*?"
    r"Data[tT]ype: (?P<dtype>\w+)"
)
_NODE = re.compile(r"\[ONNX Layer: (.+?)\]")
_TENSORS = ("Inputs", "Constants", "Outputs")


@dataclass(frozen=True)
class Tensor:
    """One operand of a layer."""

    name: str
    dtype: str
    """as the compiler names it: Float, Half, BFloat16, Int64 ..."""
    shape: tuple[int, ...]
    """-1 for what is not fixed"""

    @property
    def size(self) -> int:
        """Elements; of a constant."""
        return prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of an engine, most often many nodes of the graph fused."""

    name: str
    kind: str
    """gemm, kgen, runtime_fusion ..."""
    inputs: tuple[Tensor, ...] = ()
    constants: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    nodes: tuple[str, ...] = ()
    """those of the graph that it computes"""


def parse_message(text: str) -> dict[str, Any]:
    """The builder's message about an engine's layers, in the form of the inspector's JSON.

    Raises ModelError if there is no layer in it.
    """
    layers = [_parsed(line) for line in text.split("\n") if line.startswith("Name: ")]
    if not layers:
        raise ModelError(
            f"the compiler's message about layers is in no form that is known: {text[:80]!r}",
            hint="use the version of the compiler that the extra installs",
        )
    return {"Layers": layers}


def _parsed(line: str) -> dict[str, Any]:
    marks = [*_SECTIONS.finditer(line)]
    ends = [*(mark.start() for mark in marks[1:]), len(line)]
    layer: dict[str, Any] = {"Name": line[len("Name: ") : marks[0].start() if marks else None]}
    for mark, end in zip(marks, ends, strict=True):
        value = line[mark.end() : end]
        layer[mark[1]] = _operands(value) if mark[1] in _TENSORS else value
    return layer


def _operands(text: str) -> list[dict[str, Any]]:
    return [
        {
            "Name": match["name"],
            "Datatype": match["dtype"],
            "Dimensions": [int(size) for size in match["shape"].split(",") if size.strip()],
        }
        for match in _TENSOR.finditer(text)
    ]


def read_layers(data: Mapping[str, Any], *, where: str) -> list[Layer]:
    """The layers of one engine from the inspector's JSON, or from `parse_message`.

    Raises ModelError for an engine that was built without detailed verbosity, and for other data.
    """
    items = data.get("Layers")
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        raise ModelError(
            f"{where} tells no layers' types",
            hint="build the engine with 'vlv-export build', which asks for details",
        )
    return [_layer(item, where) for item in items]


def _layer(item: Mapping[str, Any], where: str) -> Layer:
    try:
        operands = {
            key: tuple(_tensor(each) for each in item.get(key, ()) if each) for key in _TENSORS
        }
        return Layer(
            name=str(item["Name"]),
            kind=str(item.get("LayerType", "")),
            inputs=operands["Inputs"],
            constants=operands["Constants"],
            outputs=operands["Outputs"],
            nodes=tuple(_NODE.findall(str(item.get("Metadata", "")))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{where}: a layer is in no form that is known: {error!r}") from error


def _tensor(item: Mapping[str, Any]) -> Tensor:
    """TensorRT 11 has `Datatype`; before it, `Format/Datatype` held it as its last word or all."""
    for key in ("Datatype", "DataType", "Format/Datatype"):
        if key in item:
            return Tensor(str(item["Name"]), str(item[key]), tuple(map(int, item["Dimensions"])))
    raise KeyError("Datatype")


def read_layers_file(path: Path) -> dict[str, list[Layer]]:
    """`layers.json`: part -> its layers. Raises ModelError if it is damaged."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(data, Mapping) or not all(
        isinstance(each, Mapping) for each in data.values()
    ):
        raise ModelError(f"{path} is no list of layers by part")
    return {part: read_layers(each, where=f"{path}: {part}") for part, each in data.items()}
