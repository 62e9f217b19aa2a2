"""The encoder of the case `encoder`, composed with random weights: as torch runs it, as graphs, and
what it says. Made once a run, in a process of its own."""

import gc
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import nn

from vlv_benchmarks._graphs import NEUTRAL, write_graphs
from vlv_benchmarks._operations import operations
from vlv_benchmarks.cases.encoder import FACTS, SAID, Encode, Outputs, views
from vlv_benchmarks.job import Job, Measured
from vlv_core import weights
from vlv_core.compose import Choice, choose, compose
from vlv_core.hub import fetch
from vlv_core.model_parts import export_parts
from vlv_core.parts import ExportPart
from vlv_core.registry import Plugins
from vlv_core.specs import Source, View, resolve

VARIANTS, WEIGHTS = ("fp32", "int8"), "module.safetensors"
TORCH = {"fp32": torch.float32, "bf16": torch.bfloat16}


def prepare(job: Job) -> Measured:
    """Fill `settings["folder"]`: the module's weights, fp32/ and int8/ (graphs), what the module
    says of all pictures, and last the facts."""
    folder = Path(job.settings["folder"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    torch.set_num_threads(job.row.threads)
    part = encoder(
        job.settings["parts"], size=job.settings["size"], plugins=job.plugins(), seed=job.seed
    )
    names = [spec.name for spec in part.outputs]
    pictures = views(job.settings)
    said = [_encode(part.module, names, view) for view in pictures]
    np.savez(folder / SAID, **{name: np.concatenate([each[name] for each in said])
                               for name in names})  # type: ignore[arg-type]  # fmt: skip
    counted = operations(part.module, torch.from_numpy(pictures[0]))
    for dtype in VARIANTS:
        write_graphs(part, folder / dtype, dtype=dtype)
        gc.collect()
    shutil.rmtree(folder / NEUTRAL)
    digest = weights.write(weights.distinct(part.module), folder / WEIGHTS, dtype=torch.float32)
    facts = {"operations": counted, "weights": _weights(folder), "sha256": digest,
             "graphs": {dtype: _facts(folder / dtype) for dtype in VARIANTS}}  # fmt: skip
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    return Measured(stages={"total": [1.0]})


def encoder(
    parts: Mapping[str, Sequence[Any]], *, size: int, plugins: Plugins, seed: int
) -> ExportPart:
    """The composed encoder with random weights; role -> plugin and options. Nothing is fetched."""
    choices = {
        role: _completed(choose(role, plugin, options, plugins=plugins))
        for role, (plugin, options) in parts.items()
    }
    torch.manual_seed(seed)
    model = compose(choices, view=View(size=size), diffusion=False)
    return export_parts(model.eval().requires_grad_(False), reconstruct=False)[0]


def opened(job: Job, folder: Path) -> Encode:
    """The module as it was prepared, in the row's dtype."""
    torch.set_num_threads(job.row.threads)
    with weights.skeleton():
        part = encoder(
            job.settings["parts"], size=job.settings["size"], plugins=job.plugins(), seed=job.seed
        )
    digest = json.loads((folder / FACTS).read_text(encoding="utf-8"))["sha256"]
    weights.assign(part.module, weights.read(folder / WEIGHTS, digest), part=part.name)
    module = part.module.to(TORCH[job.row.dtype])
    names = [spec.name for spec in part.outputs]
    return lambda view: _encode(module, names, view)


def _encode(module: nn.Module, names: Sequence[str], view: NDArray[np.uint8]) -> Outputs:
    with torch.inference_mode():
        made = module(torch.from_numpy(view))
    return {name: each.float().numpy() for name, each in zip(names, made, strict=True)}


def _completed(choice: Choice) -> Choice:
    if choice.spec.complete is None:
        return choice
    return replace(choice, config=resolve(choice.spec.complete)(choice.config, _here))


def _here(source: Source) -> Path:
    return fetch(source, root=Path(), offline=True).folder


def _weights(folder: Path) -> dict[str, float]:
    """Bytes that a call reads at least; those of a module as far as its graph has them, for what it
    looks up in tables of embeddings is none of it."""
    stored = {dtype: float(_bytes(folder / dtype, ".data")) for dtype in VARIANTS}
    return {**stored, "bf16": stored["fp32"] / 2}


def _facts(folder: Path) -> dict[str, float]:
    """What may not vary between two runs."""
    graph = ir.load(folder / "encoder.onnx").graph
    return {
        "artefact_bytes": float(_bytes(folder, ".data") + _bytes(folder, ".onnx")),
        "graph_nodes": float(sum(1 for _ in graph.all_nodes())),
    }


def _bytes(folder: Path, suffix: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(f"*{suffix}"))
