"""An exporter that writes text, for tests of what stands around exporters."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir

from vlv_core.parts import ExportPart
from vlv_export.exporters import Job, Planned, Request
from vlv_export.manifest import GraphEntry, TensorEntry, VariantEntry
from vlv_export.parity.report import Check, Level, Report, judged

PAST = TensorEntry(name="past.0.key", dtype="float16", shape=("batch", 2, "capacity", 8))


@dataclass
class FakeBuilder:
    """Dtypes: `good`, `other`, and `bad`, which fails its proof; `waits` and `odd` are not run."""

    breaks: str = ""
    """dtype whose building fails"""
    built: list[str] = field(default_factory=list)
    proved: list[str] = field(default_factory=list)
    dtypes = dict.fromkeys(("good", "other", "bad", "waits", "odd"), "text")
    default: Sequence[str] = ("good",)

    def plan(self, request: Request) -> list[Planned]:
        return [
            Planned(
                name=f"fake-{dtype}",
                dtype=dtype,
                bytes=request.weights.matrices,
                waits="waits for a target" if dtype == "waits" else "",
                not_run="nothing runs it here" if dtype == "odd" else "",
            )
            for dtype in request.dtypes
        ]

    def build(self, job: Job) -> VariantEntry:
        dtype = job.planned.dtype
        self.built.append(dtype)
        if job.planned.waits:
            return VariantEntry(
                exporter="fake", dtype=dtype, state="pending", graphs={}, waits=job.planned.waits
            )
        if dtype == self.breaks:
            raise ValueError(f"no {dtype} today")
        assert (job.assets / "tokenizer.json").is_file()
        text = "\n".join(f"{name} {path.name}" for name, path in job.graphs.items())
        (job.folder / "head.onnx").write_text(f"{dtype}\n{text}")
        (job.folder / "head.data").write_text(dtype * 100)
        graph = GraphEntry(file="head.onnx", data=("head.data",), inputs=(PAST,))
        return VariantEntry(exporter="fake", dtype=dtype, state="built", graphs={"head": graph})

    def sources(self) -> Sequence[str]:
        return ("vlv_export.exporters",)


class FakeExporter(FakeBuilder):
    """With a proof of its own."""

    def prove(self, folder: Path, variant: str, entry: VariantEntry, *, golden: Any) -> Report:
        self.proved.append(entry.dtype)
        assert (folder / entry.graph("head").file).read_text().startswith(entry.dtype)
        figure = 1.0 if entry.dtype == "bad" else 1e-7
        check = Check(part="head", output="logits", figure="error", value=figure, most=1e-5)
        levels = (judged("L1", [check]), Level(level="L4", state="not applicable", reason="fake"))
        return Report(model="tiny", variant=variant, dtype=entry.dtype, levels=levels)


@dataclass
class FakeTorch:
    """In place of what is slow: capturing, and golden values."""

    captured: list[str] = field(default_factory=list)
    breaks: str = ""
    """part whose capture fails"""

    def capture(self, part: ExportPart) -> ir.Model:
        self.captured.append(part.name)
        if part.name == self.breaks:
            raise ValueError(f"no {part.name} today")
        graph = ir.Graph([], [], nodes=[], name=part.name, opset_imports={"": 20})
        return ir.Model(graph, ir_version=10)

    def golden(self, model: Any, parts: Any, captioner: Any, path: Path, **options: Any) -> None:
        self.captured.append("golden")
        path.write_text("golden")
