"""The hooks. A plugin implements any of them; each returns records and registers nothing.

from vlv_core import EncoderSpec, hookimpl

@hookimpl
def vlv_encoders():
    return [EncoderSpec(name="mine", build="my_package._encoder:build", summary="my encoder")]
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from vlv_core import specs

PROJECT = "vlv"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def vlv_encoders() -> Iterable[specs.EncoderSpec]:  # type: ignore[empty-body]
    """Vision encoders: view -> tokens."""


@hookspec
def vlv_bottlenecks() -> Iterable[specs.BottleneckSpec]:  # type: ignore[empty-body]
    """Bottlenecks: tokens -> caption embeddings z."""


@hookspec
def vlv_decoders() -> Iterable[specs.DecoderSpec]:  # type: ignore[empty-body]
    """Frozen text-to-image decoders: a condition (z -> context) and a diffusion."""


@hookspec
def vlv_connectors() -> Iterable[specs.ConnectorSpec]:  # type: ignore[empty-body]
    """Connectors: context -> the head's prefix."""


@hookspec
def vlv_heads() -> Iterable[specs.HeadSpec]:  # type: ignore[empty-body]
    """Language-model heads: prefix -> caption."""


@hookspec
def vlv_datasets() -> Iterable[specs.DatasetSpec]:  # type: ignore[empty-body]
    """Datasets that a recipe can name."""


@hookspec
def vlv_evaluators() -> Iterable[specs.EvaluatorSpec]:  # type: ignore[empty-body]
    """Metrics for `vlv eval`."""


@hookspec
def vlv_importers() -> Iterable[specs.ImporterSpec]:  # type: ignore[empty-body]
    """Readers of foreign checkpoints, for `vlv import NAME`."""


@hookspec
def vlv_models() -> Iterable[specs.ModelSpec]:  # type: ignore[empty-body]
    """Bundled models: a name that `vlv.load(name)` takes, and its folder."""


@hookspec
def vlv_openers() -> Iterable[specs.OpenerSpec]:  # type: ignore[empty-body]
    """Openers: the marker file in a folder -> a captioner."""


@hookspec
def vlv_exporters() -> Iterable[specs.ExporterSpec]:  # type: ignore[empty-body]
    """Exporters for `vlv-export`; the name is the flag."""


@hookspec
def vlv_bench_cases() -> Iterable[specs.BenchCaseSpec]:  # type: ignore[empty-body]
    """Cases for `vlv-bench`."""
