"""The exporters `--rtx` and `--trt`: graphs made for engines, and engines compiled from them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

from vlv_core.errors import UsageError
from vlv_export.exporters import Job, Planned, Request
from vlv_export.facts import read_generation
from vlv_export.manifest import GraphEntry, VariantEntry
from vlv_export.tensorrt.engines import CODE_BYTES, Target, compile_engines, target_of
from vlv_export.tensorrt.job import LibraryName
from vlv_export.tensorrt.libraries import library
from vlv_export.tensorrt.profiles import plan_profiles
from vlv_export.tensorrt.proof import not_run_here
from vlv_export.tensorrt.settings import Settings, named, read_settings

ABOUT = {
    "bf16": "engines, for GPUs from sm80 on",
    "fp16": "engines; norms and softmax in fp32",
    "fp32": "engines",
}
NUMBER_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
CACHE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
GRAPH_BYTES = 500_000
"""of a part's graph without its weights"""
LEAST_RUNTIME = "1.25"
"""onnxruntime: the first that runs TensorScatter and Attention of opset 24"""


class EngineExporter:
    """See `exporters.Exporter`. Of each dtype the graphs `onnx24-DTYPE`, and engines of them."""

    library: ClassVar[LibraryName]
    dtypes = ABOUT
    default: Sequence[str] = ("bf16",)

    def __init__(self, options: Mapping[str, str] | None = None) -> None:
        self.settings: Settings = read_settings(self.library, options or {})

    def plan(self, request: Request) -> list[Planned]:
        """Raises UsageError for GPUs and capacities that do not go with library, dtype, model."""
        capacities = self.settings.capacities_of(
            prefix_length=request.prefix_length, max_length=request.max_length
        )
        return [
            each for dtype in request.dtypes for each in self._planned(request, dtype, capacities)
        ]

    def _planned(
        self, request: Request, dtype: str, capacities: tuple[int, ...]
    ) -> tuple[Planned, Planned]:
        target, size = self._target(dtype), _weights(request, dtype)
        heads = (len(capacities) - 1) * NUMBER_BYTES[dtype] * _numbers(request.head)
        graphs = Planned(
            name=f"onnx24-{dtype}",
            dtype=dtype,
            bytes=size + GRAPH_BYTES * (len(request.parts) + len(capacities) - 1),
            settings={"capacities": list(capacities)},
        )
        engines = Planned(
            name=named(self.library, dtype, target.sm),
            dtype=dtype,
            bytes=size + heads + CODE_BYTES * (len(request.parts) + len(capacities) - 1),
            of=graphs.name,
            settings={
                "target": asdict(target),
                "batches": list(self.settings.batches),
                "version": library(self.library).version or "",
            },
            waits=target.waits(),
            not_run=_not_run(target),
        )
        return graphs, engines

    def build(self, job: Job) -> VariantEntry:
        """Lower the parts; or compile what was lowered."""
        if job.of is None:
            return self._build_graphs(job)
        length = read_generation(job.assets).prefix_length
        axes = {part: job.parts[part.split(".")[0]].axes for part in job.graphs}
        return compile_engines(
            job.graphs,
            job.of,
            source=job.planned.of,
            target=self._target(job.planned.dtype),
            profiles=plan_profiles(axes, batches=self.settings.batches, prefix_length=length),
            folder=job.folder,
            tell=job.tell,
        )

    def sources(self) -> Sequence[str]:
        """The lowering, the libraries that write its graphs, and what drives the compiler."""
        own = ("vlv_export.lowering", "vlv_export.tensorrt")
        return (*own, "onnx", "onnx-ir", "onnxscript")

    def _target(self, dtype: str) -> Target:
        return target_of(
            self.library,
            dtype,
            sm=self.settings.sm,
            hardware=self.settings.hardware,
            version_compatible=self.settings.version_compatible,
        )

    def _build_graphs(self, job: Job) -> VariantEntry:
        from vlv_export.lowering._engine import build_engine_graphs
        from vlv_export.lowering._variant import proved_precision

        capacities: list[int] = job.planned.settings["capacities"]
        dtype = job.planned.dtype
        graphs = build_engine_graphs(
            job.graphs, job.folder, dtype=dtype, capacities=capacities, progress=job.tell
        )
        return VariantEntry(
            exporter="onnx",
            dtype=dtype,
            state="built",
            graphs=graphs,
            precision={"requested": dtype, "proved": proved_precision(job.folder, graphs)},
            kv=_cache(graphs["head"], capacities),
            compat={"onnxruntime": LEAST_RUNTIME},
        )


class RtxExporter(EngineExporter):
    """By tensorrt-rtx, on any machine."""

    library = "rtx"


class TrtExporter(EngineExporter):
    """By tensorrt, on the machine that has the GPU."""

    library = "trt"


def _not_run(target: Target) -> str:
    """Why the engine will not be run here."""
    compat: dict[str, Any] = {"sm": list(target.sm), "hardware": target.hardware}
    return not_run_here(
        VariantEntry(
            exporter=target.library, dtype=target.dtype, state="built", graphs={}, compat=compat
        )
    )


def _weights(request: Request, dtype: str) -> int:
    return NUMBER_BYTES[dtype] * _numbers(request.weights)


def _numbers(weights: Any) -> int:
    return int(weights.matrices + weights.rest)


def _cache(head: GraphEntry, capacities: Sequence[int]) -> dict[str, Any]:
    """Of the largest head: `past.*` are (B, heads, capacity, width)."""
    past = [each for each in head.inputs if each.name.startswith("past.")]
    if not past:
        raise UsageError("the head's graph has no cache, so that no engine can be made of it")
    sizes = [int(each.shape[1]) * int(each.shape[3]) for each in past]
    return {
        "capacity": max(capacities),
        "capacities": sorted(capacities),
        "dtype": past[0].dtype,
        "bytes_per_token": CACHE_BYTES[past[0].dtype] * sum(sizes),
    }
