"""Components of every kind as graphs for engines: sound, equal to eager, and parsed by TensorRT.

Those that have something of their own; every other is captured by test_capture_registry. A plugin
that the tables do not know is tested by being installed.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.export.graphs_for_engines import CAPACITY, ELEMENTS, EngineHead, build, neutral, session
from tests.export.tiny_components import TINY, Case, cases, parts
from tests.export.tiny_components import build as build_model
from tests.plugins.causal_lm.following import worst_error
from vlv_core.parts import ExportPart
from vlv_core.plugins import load_plugins
from vlv_core.registry import available
from vlv_export.lowering._differences import differences
from vlv_export.lowering._lint import lint
from vlv_export.lowering._simulate import simulate
from vlv_export.tensorrt.job import BuildJob
from vlv_export.tensorrt.libraries import library
from vlv_export.tensorrt.process import build as compile_engines
from vlv_export.tensorrt.profiles import plan_profiles

PLUGINS = load_plugins()
OWN = {
    "head-causal-lm-gemma2": "scaled words, grouped queries, sliding windows, a softcap",
    "bottleneck-florence2": "attention over channels, a text encoder",
    "encoder-vision-transformers-clip": "bytes moved before they are converted",
    "decoder-mini-t2i": "causal text, ConvTranspose",
}
CASES = [case for case in cases(PLUGINS) if str(case) in OWN or case not in TINY]
DTYPES = ("fp32", "fp16", "bf16")
LIMITS = {"fp32": 2e-6, "fp16": 4e-3, "simulated": 3e-2}
"""form -> the largest relative L2 error; all weights are random, which is the worst case"""
Graphs = dict[str, dict[str, Path]]


@pytest.fixture(params=CASES, ids=str, scope="module")
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Case, list[ExportPart], Graphs]:
    """A component's parts, and by dtype and part their graphs."""
    case = request.param
    reason = available(PLUGINS.get(case.role, case.plugin).spec)
    if reason is not None:
        pytest.skip(reason)
    folder, own = tmp_path_factory.mktemp("engine"), parts(case, PLUGINS)
    files = {part.name: neutral(part, folder) for part in own}
    graphs: Graphs = {}
    for dtype in DTYPES:
        entries = build(files, folder / dtype, dtype)
        graphs[dtype] = {part: folder / dtype / entry.file for part, entry in entries.items()}
        for part, entry in entries.items():
            assert lint(graphs[dtype][part], part, entry, dtype) == []
    return case, own, graphs


def opened(graphs: Graphs, form: str, part: str, scratch: Path) -> Any:
    if form != "simulated":
        return session(graphs[form][part])
    simulate(graphs["bf16"][part], scratch / f"{part}.onnx")
    return session(scratch / f"{part}.onnx", weights=graphs["bf16"][part].parent)


@pytest.mark.parametrize("form", LIMITS)
@torch.no_grad()
def test_a_component_equals_eager(
    made: tuple[Case, list[ExportPart], Graphs], form: str, tmp_path: Path
) -> None:
    case, own, graphs = made
    for part in own:
        run = opened(graphs, form, part.name, tmp_path)
        error = _head(case, part, run, form) if part.name == "head" else _worst(part, run)
        assert error < LIMITS[form], part.name


def _worst(part: ExportPart, run: Any) -> float:
    errors = []
    for rows in (1, 3):
        sizes = {name: min(axis.high, rows + 4) for name, axis in part.axes.items()}
        sizes["batch"] = rows
        example = part.example(sizes, seed=rows)
        due = part.module(*(torch.from_numpy(each) for each in example.values()))
        found = run.run([spec.name for spec in part.outputs], example)
        errors += [_relative(*pair) for pair in zip(found, due, strict=True)]
    return max(errors)


def _relative(found: NDArray[Any], due: torch.Tensor) -> float:
    assert found.shape == tuple(due.shape)
    return float(np.linalg.norm(found - due.numpy()) / np.linalg.norm(due.numpy()))


def _head(case: Case, part: ExportPart, run: Any, form: str) -> float:
    """Over a prefix and single tokens, in a cache that is full of garbage."""
    head = build_model(case, PLUGINS).head
    graph = EngineHead(part, run, ELEMENTS[form])
    errors = []
    for rows in (1, 3):
        before = torch.randn(rows, 5, head.dim, generator=torch.Generator().manual_seed(rows))
        errors.append(worst_error(graph, head, cache=part, before=before, steps=CAPACITY - 6))
    return max(errors)


def test_bfloat16_differs_from_the_others_in_types_alone(
    made: tuple[Case, list[ExportPart], Graphs],
) -> None:
    for dtype in ("fp16", "fp32"):
        for part, path in made[2]["bf16"].items():
            assert differences(path, made[2][dtype][part]) == []


@pytest.mark.skipif(library("rtx").version is None, reason="tensorrt-rtx is not installed")
@pytest.mark.parametrize("dtype", DTYPES)
def test_tensorrt_takes_the_graphs(
    made: tuple[Case, list[ExportPart], Graphs], dtype: Any, tmp_path: Path
) -> None:
    _, own, graphs = made
    state = {part.name: dict(part.state) for part in own}
    job = BuildJob(
        library="rtx",
        graphs=graphs[dtype],
        out=tmp_path,
        dtype=dtype,
        profiles=plan_profiles({part.name: part.axes for part in own}, prefix_length=5),
        aliases=state,
        sm=(86,),
        check_only=True,
    )
    checked = compile_engines(job, tell=lambda text: None)
    assert set(checked.engines) == set(graphs[dtype])
    for part, engine in checked.engines.items():
        assert engine.aliases == state[part]
