"""The exporter `--genai`: see the package's docstring."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx_ir as ir

from vlv_core.parts import CAPTION_PARTS
from vlv_export._onnx import OnnxExporter
from vlv_export.exporters import Job, Planned, Request
from vlv_export.facts import TOKENIZER, read_generation, read_preprocess
from vlv_export.genai import _graphs
from vlv_export.genai._prove import MISSING, WHEEL, compare
from vlv_export.genai.config import (
    Decoder,
    genai_config,
    processor_config,
    tokenizer_config,
)
from vlv_export.genai.placeholders import Placeholders
from vlv_export.genai.readme import readme
from vlv_export.golden import Golden
from vlv_export.lowering._store import WeightStore
from vlv_export.lowering._variant import build_variant, proved_precision, write_graph
from vlv_export.manifest import GraphEntry, VariantEntry
from vlv_export.parity.report import Report

ABOUT = {
    "fp32": "standard operators",
    "fp16": "standard operators",
    "int8": "8-bit matrices, fused attention",
    "int4": "4-bit matrices, fused attention",
}
LEAST_WHEEL = "0.18"
"""the version that packages are tried with"""


class GenaiExporter:
    """See `exporters.Exporter` and `exporters.Prover`."""

    dtypes = ABOUT
    default: Sequence[str] = ("fp32",)

    def plan(self, request: Request) -> list[Planned]:
        """A variant for each dtype; as large as that of `--onnx`, whose parts it takes."""
        return [
            replace(
                planned,
                name=f"genai-{planned.dtype}",
                not_run=MISSING if find_spec(WHEEL) is None else "",
            )
            for planned in OnnxExporter().plan(request)
        ]

    def build(self, job: Job) -> VariantEntry:
        """Cut, lower, and put the package together.

        Raises UsageError for a head that GenAI's form does not fit.
        """
        facts = read_generation(job.assets)
        placeholders = Placeholders(facts.vocab_size, facts.prefix_length)
        sizes = _graphs.sizes(ir.load(job.graphs["head"]), max_length=facts.max_length)
        with TemporaryDirectory(dir=job.folder) as work:
            graphs = _write_graphs(job, Path(work), placeholders)
        _write_settings(job, sizes, placeholders)
        return VariantEntry(
            exporter="genai",
            dtype=job.planned.dtype,
            state="built",
            graphs=graphs,
            precision={
                "requested": job.planned.dtype,
                "proved": proved_precision(job.folder, graphs),
            },
            kv=_cache(sizes, graphs["decoder"]),
            compat={"onnxruntime-genai": LEAST_WHEEL},
        )

    def sources(self) -> Sequence[str]:
        """What `--onnx` is made of, and this package."""
        return (*OnnxExporter().sources(), "vlv_export.genai")

    def prove(self, folder: Path, variant: str, entry: VariantEntry, *, golden: Golden) -> Report:
        """Captions by the real wheel, as level L3."""
        package = (folder / entry.graph("decoder").file).parent
        return Report(
            model=golden.facts.model,
            variant=variant,
            dtype=entry.dtype,
            levels=(compare(package, dtype=entry.dtype, golden=golden),),
        )


def _write_graphs(job: Job, work: Path, placeholders: Placeholders) -> dict[str, GraphEntry]:
    """Lower encoder and head in `work`, cut them, and write what comes of it."""
    neutral = {part: job.graphs[part] for part in CAPTION_PARTS}
    build_variant(neutral, work, dtype=job.planned.dtype, progress=job.tell)
    encoder, head = (work / f"{part}.onnx" for part in CAPTION_PARTS)
    # The decoder before the embedding: a tied table is then stored in the decoder's file.
    models = {
        "vision": _graphs.vision(ir.load(encoder)),
        "decoder": _graphs.decoder(ir.load(head), placeholders),
        "embedding": _graphs.embedding(ir.load(head), placeholders),
    }
    store = WeightStore(job.folder)
    return {part: write_graph(model, part, job.folder, store) for part, model in models.items()}


def _write_settings(job: Job, sizes: Decoder, placeholders: Placeholders) -> None:
    """All files of the package but its graphs."""
    facts, preprocess = read_generation(job.assets), read_preprocess(job.assets)
    tokenizer = (job.assets / TOKENIZER).read_text(encoding="utf-8")
    processor = processor_config(preprocess.view, preprocess.pixels)
    config = genai_config(sizes, placeholders, eos=facts.eos, processor=processor is not None)
    _write_json(job.folder / "genai_config.json", config)
    _write_json(job.folder / "tokenizer_config.json", tokenizer_config(tokenizer, eos=facts.eos))
    if processor is not None:
        _write_json(job.folder / "processor_config.json", processor)
    (job.folder / TOKENIZER).write_text(placeholders.added_to(tokenizer), encoding="utf-8")
    text = readme(
        job.planned.name,
        placeholders=placeholders,
        size=preprocess.pixels.size,
        fit=None if processor is None else preprocess.view.fit,
    )
    (job.folder / "README.md").write_text(text, encoding="utf-8")


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(f"{json.dumps(data, indent=2, ensure_ascii=False)}\n", encoding="utf-8")


def _cache(sizes: Decoder, decoder: GraphEntry) -> dict[str, int | str]:
    dtype = next(each.dtype for each in decoder.inputs if each.name.startswith("past."))
    numbers = 2 * sizes.layers * sizes.cache_heads * sizes.head_width
    return {
        "capacity": sizes.max_length,
        "dtype": dtype,
        "bytes_per_token": numbers * (2 if dtype == "float16" else 4),
    }
