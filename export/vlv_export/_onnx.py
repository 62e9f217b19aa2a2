"""The exporter `--onnx`: variants for onnxruntime, by `lowering`."""

from collections.abc import Sequence

from vlv_export.exporters import Job, Planned, Request
from vlv_export.lowering._variant import build_variant, proved_precision
from vlv_export.manifest import VariantEntry

ABOUT = {
    "fp32": "portable, standard operators",
    "fp16": "portable, standard operators",
    "bf16": "standard operators, for runtimes with bf16 kernels",
    "int8": "for the CPU: 8-bit matrices, fused attention",
    "int4": "for the CPU: 4-bit layers, 8-bit words, fused attention",
}
MATRIX_BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.125, "int4": 0.625}
"""a number of a matrix; quantised ones with a float32 scale for each 32"""
REST_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 4, "int4": 4}
GRAPH_BYTES = 500_000
"""of a part's graph without its weights"""
LEAST_RUNTIME = {"fp32": "1.20", "fp16": "1.20", "bf16": "1.20", "int8": "1.23", "int4": "1.23"}
"""onnxruntime: that of two years ago runs standard operators of opset 20. Tables of tokens in 4 or
8 bits are read by GatherBlockQuantized, whose attribute `bits` 1.20 and 1.22 do not know"""


class OnnxExporter:
    """See `exporters.Exporter`."""

    dtypes = ABOUT
    default: Sequence[str] = ("fp32",)

    def plan(self, request: Request) -> list[Planned]:
        """A variant for each dtype."""
        return [
            Planned(
                name=f"onnx-{dtype}",
                dtype=dtype,
                bytes=_size(request, dtype),
                not_run="onnxruntime has no bf16 kernels for the CPU" if dtype == "bf16" else "",
            )
            for dtype in request.dtypes
        ]

    def build(self, job: Job) -> VariantEntry:
        """Lower every part, and read back what precision the graphs hold."""
        dtype = job.planned.dtype
        graphs = build_variant(job.graphs, job.folder, dtype=dtype, progress=job.tell)
        return VariantEntry(
            exporter="onnx",
            dtype=dtype,
            state="built",
            graphs=graphs,
            precision={"requested": dtype, "proved": proved_precision(job.folder, graphs)},
            compat={"onnxruntime": LEAST_RUNTIME[dtype]},
        )

    def sources(self) -> Sequence[str]:
        """The lowering and the libraries that write its graphs."""
        return ("vlv_export.lowering", "vlv_export._onnx", "onnx", "onnx-ir", "onnxscript")


def _size(request: Request, dtype: str) -> int:
    weights = request.weights
    size = weights.matrices * MATRIX_BYTES[dtype] + weights.rest * REST_BYTES[dtype]
    return int(size) + GRAPH_BYTES * len(request.parts)
