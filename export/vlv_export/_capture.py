"""From a part to its neutral graph: traced by torch.export, written as ONNX with `vlv` operations.

The expensive half of an export. It is done once a part, in float32; every variant is made from it
without torch.
"""

import inspect
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from vlv_core.errors import VlvError
from vlv_core.parts import ExportPart, TensorSpec
from vlv_export._nodes import translations
from vlv_export._tidy import tidy

OPSET = 20
"""of the standard operators in neutral and portable graphs"""
TRACED = {"batch": 2, "prefix": 5, "length": 3, "capacity": 16}
"""axis lengths while tracing: 0 and 1 would be baked in; others get 4 or more"""


def capture(part: ExportPart) -> ir.Model:
    """The part's neutral graph; its initializers are the module's own tensors, not copies.

    Raises VlvError if an axis that should be dynamic was baked in.
    """
    module = part.module.eval()
    sizes = traced_sizes(part)
    example = part.example(sizes, seed=0)
    inputs = tuple(torch.from_numpy(example[spec.name]) for spec in part.inputs)
    dynamic = tuple(_dynamic(spec) for spec in part.inputs)
    with torch.no_grad(), warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            module, inputs, dynamic_shapes=_for_signature(module, dynamic), strict=False
        )
        made = torch.onnx.export(
            program,
            dynamo=True,
            optimize=False,
            opset_version=OPSET,
            custom_translation_table=translations(),
            input_names=[spec.name for spec in part.inputs],
            output_names=[spec.name for spec in part.outputs],
            verbose=False,
        )
    assert made is not None
    model = made.model
    model.graph.name = part.name
    tidy(model)
    _declare(model, part)
    return model


def traced_sizes(part: ExportPart) -> dict[str, int]:
    """Lengths of the part's axes while it is traced, all different from what they may be."""
    return {name: TRACED.get(name, min(4, axis.high)) for name, axis in part.axes.items()}


def _dynamic(spec: TensorSpec) -> dict[int, Any]:
    return {
        index: torch.export.Dim.DYNAMIC
        for index, size in enumerate(spec.shape)
        if isinstance(size, str)
    }


def _for_signature(module: nn.Module, dynamic: Sequence[Any]) -> tuple[Any, ...]:
    """Dynamic shapes as torch.export wants them: those of `*tensors` as one tuple."""
    kinds = [each.kind for each in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return tuple(dynamic)
    fixed = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*dynamic[:fixed], tuple(dynamic[fixed:]))


def _declare(model: ir.Model, part: ExportPart) -> None:
    """Give the graph's inputs and outputs the contract's shapes, and check that they are those."""
    for values, specs in ((model.graph.inputs, part.inputs), (model.graph.outputs, part.outputs)):
        for value, spec in zip(values, specs, strict=True):
            _check_axes(part, spec, value)
            value.shape = ir.Shape(spec.shape)


def _check_axes(part: ExportPart, spec: TensorSpec, value: ir.Value) -> None:
    found = value.shape
    baked = [
        size
        for size, dimension in zip(spec.shape, found or (), strict=True)
        if isinstance(size, str) == isinstance(dimension, int)
    ]
    if baked:
        raise VlvError(
            f"part {part.name!r}: axis {baked[0]!r} of {spec.name!r} became {found}, "
            f"declared {spec.shape}",
            hint="a shape is computed in Python somewhere in this part: use the tensors' own",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs what it skips (torchvision) and other matters that are no user's."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
