"""Every installed component is captured, lowered, and says in onnxruntime what it says eagerly."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from tests.export.tiny_components import TINY, Case, build, cases, parts
from tests.plugins.causal_lm.following import worst_error
from vlv_core.parts import ExportPart
from vlv_core.plugins import load_plugins
from vlv_core.registry import available
from vlv_export._capture import capture
from vlv_export.lowering._variant import build_variant

PLUGINS = load_plugins()
INSTALLED = list(cases(PLUGINS))
ROWS = (1, 2, 3, 7)
Arrays = Mapping[str, NDArray[Any]]


class Session:
    """A part's portable graph in onnxruntime."""

    def __init__(self, part: ExportPart, folder: Path) -> None:
        self.part = part
        ir.save(capture(part), folder / "neutral.onnx", external_data="neutral.data")
        [entry] = build_variant(
            {part.name: folder / "neutral.onnx"}, folder / "v", dtype="fp32"
        ).values()
        self.session = onnxruntime.InferenceSession(folder / "v" / entry.file)

    def __call__(self, inputs: Arrays) -> list[NDArray[Any]]:
        return self.session.run([spec.name for spec in self.part.outputs], dict(inputs))

    def graph(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """The head's, as the traced module takes and gives them."""
        names = [spec.name for spec in self.part.inputs]
        inputs = {name: each.numpy() for name, each in zip(names, tensors, strict=True)}
        return [torch.from_numpy(each) for each in self({**inputs, "k": np.array([1])})]


@torch.no_grad()
def check(part: ExportPart, folder: Path) -> None:
    session = Session(part, folder)
    for rows in ROWS:
        sizes = {name: min(axis.high, rows + 4) for name, axis in part.axes.items()}
        sizes["batch"] = rows
        example = part.example(sizes, seed=rows)
        due = part.module(*(torch.from_numpy(each) for each in example.values()))
        for spec, mine, eager in zip(part.outputs, session(example), due, strict=True):
            assert mine.shape == spec.sizes(sizes)
            error = np.linalg.norm(mine - eager.numpy()) / np.linalg.norm(eager.numpy())
            assert error < 1e-5, f"{spec.name} at {sizes}: {error:.2g}"


@pytest.mark.parametrize("case", [case for case in INSTALLED if case.role != "head"], ids=str)
def test_a_component_is_captured_and_equals_eager(case: Case, tmp_path: Path) -> None:
    reason = available(PLUGINS.get(case.role, case.plugin).spec)
    if reason is not None:
        pytest.skip(reason)
    made = parts(case, PLUGINS)
    assert made, "the role appears in no part"
    for part in made:
        folder = tmp_path / part.name
        folder.mkdir()
        check(part, folder)


@pytest.mark.parametrize("case", [case for case in INSTALLED if case.role == "head"], ids=str)
def test_a_head_is_captured_and_equals_its_stepper(case: Case, tmp_path: Path) -> None:
    head = build(case, PLUGINS).head
    part = head.export_part()
    session = Session(part, tmp_path)
    for rows in ROWS:
        before = torch.randn(rows, 5, head.dim, generator=torch.Generator().manual_seed(rows))
        assert worst_error(session.graph, head, cache=part, before=before, steps=9) < 1e-5


def test_every_role_and_bundled_plugin_is_among_the_cases() -> None:
    mine = {(item.role, item.spec.name) for role in ("encoder", "bottleneck", "decoder",
            "connector", "head") for item in PLUGINS.all(role)}  # fmt: skip
    assert mine == {(case.role, case.plugin) for case in INSTALLED}
    assert {(case.role, case.plugin) for case in TINY} <= mine
