"""What vlv_export offers through the hooks: exporters, and the opener of their artefacts."""

from collections.abc import Iterable

from vlv_core import ExporterSpec, OpenerSpec, hookimpl
from vlv_export.tensorrt.settings import SHARED, TRT_ALONE

LOWERING = ("torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "ml_dtypes")
"""what neutral graphs are captured and lowered by"""


@hookimpl
def vlv_exporters() -> Iterable[ExporterSpec]:
    return [
        ExporterSpec(
            name="onnx",
            summary="ONNX for onnxruntime: fp32, fp16, bf16, and int8, int4 for the CPU",
            run="vlv_export._onnx:OnnxExporter",
            requires=LOWERING,
            extra="onnx",
        ),
        ExporterSpec(
            name="genai",
            summary="a package for stock ONNX Runtime GenAI: fp32, fp16, int8, int4",
            run="vlv_export.genai._exporter:GenaiExporter",
            requires=LOWERING,
            extra="onnx",
        ),
        ExporterSpec(
            name="rtx",
            summary="TensorRT-RTX engines for chosen GPUs, built without one: bf16, fp16, fp32",
            run="vlv_export.tensorrt._exporter:RtxExporter",
            options=SHARED,
            requires=(*LOWERING, "tensorrt_rtx"),
            extra="onnx,rtx",
        ),
        ExporterSpec(
            name="trt",
            summary="TensorRT engines for the GPU that builds them: bf16, fp16, fp32",
            run="vlv_export.tensorrt._exporter:TrtExporter",
            options=(*SHARED, *TRT_ALONE),
            requires=LOWERING,
            extra="onnx",
        ),
    ]


@hookimpl
def vlv_openers() -> Iterable[OpenerSpec]:
    return [
        OpenerSpec(
            name="artefact",
            summary="what vlv-export writes, run without torch",
            marker="manifest.json",
            open="vlv_export.runtime:open_artefact",
            requires=("onnxruntime",),
            extra="runtime",
        )
    ]
