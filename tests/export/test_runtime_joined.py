"""Heads for engines run by the same loop: joined inputs, caches of a few fixed capacities."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.export import tiny_artefact
from vlv_core.captioner import Captioner
from vlv_core.errors import ModelError, UsageError
from vlv_core.generation import GenerationOptions
from vlv_core.protocols import Encoded
from vlv_export import Runtime
from vlv_export.manifest import GraphEntry, read_manifest, write_manifest
from vlv_export.runtime import head as head_module
from vlv_export.runtime.cache import KvCache
from vlv_export.runtime.head import fed, fixed_capacities

OPTIONS = {
    "greedy": GenerationOptions(max_new_tokens=18, stop_on_repetition=False),
    "sampling": GenerationOptions(max_new_tokens=18, temperature=1.0, seed=3),
    "beams": GenerationOptions(max_new_tokens=18, beams=4, stop_on_repetition=False),
}


@pytest.fixture(scope="module")
def encoded() -> Encoded:
    prefix = 5 * np.random.default_rng(0).standard_normal((5, 4, 16)).astype(np.float32)
    return Encoded(prefix, prefix, None, prefix)


def opened(out: Path, dtype: str = "fp32") -> Runtime:
    return Runtime.open(out, variant=f"onnx24-{dtype}", threads=1)


def words(captioner: Captioner, encoded: Encoded, name: str) -> list[tuple[int, ...]]:
    said = captioner.caption(encoded, options=OPTIONS[name], keys=range(len(encoded)))
    return [each.tokens for each in said]


@pytest.mark.parametrize("name", OPTIONS)
def test_captions_are_those_of_torch(
    name: str, compiled: Path, captioner: Captioner, encoded: Encoded
) -> None:
    assert words(opened(compiled), encoded, name) == words(captioner, encoded, name)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_decode_moves_to_the_next_capacity_when_it_must(
    name: str, compiled: Path, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = words(opened(compiled), encoded, name)
    runtime = opened(compiled)
    monkeypatch.setattr(head_module, "ROOM", 6)
    assert words(runtime, encoded, name) == wanted
    assert {cache.capacity for cache, _ in runtime.backend.head._pool} == {16, 24}


def test_a_short_request_takes_the_smallest_cache(compiled: Path, encoded: Encoded) -> None:
    runtime = opened(compiled)
    runtime.caption(encoded, options=GenerationOptions(max_new_tokens=12))
    assert {cache.capacity for cache, _ in runtime.backend.head._pool} == {16}


def test_capacities_are_those_of_the_graphs(compiled: Path) -> None:
    manifest = read_manifest(compiled)
    assert fixed_capacities(manifest.variant("onnx24-fp16")) == {16: "head.16", 24: "head"}
    assert fixed_capacities(manifest.variant("onnx-fp16")) == {}


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_garbage_beyond_the_used_cache_changes_nothing(
    dtype: str, compiled: Path, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = words(opened(compiled, dtype), encoded, "beams")
    allocate = KvCache._allocate

    def dirty(cache: KvCache, layers: Any) -> None:
        allocate(cache, layers)
        for blocks in cache._blocks:
            for block in blocks:
                block[:] = 1e3

    monkeypatch.setattr(KvCache, "_allocate", dirty)
    assert words(opened(compiled, dtype), encoded, "beams") == wanted


def test_an_artefact_holds_no_more_than_its_largest_cache(
    compiled: Path, encoded: Encoded, tmp_path: Path
) -> None:
    out = tiny_artefact.copy(compiled, tmp_path)
    manifest = read_manifest(out)
    entry = manifest.variant("onnx24-fp32")
    small = {**entry.graphs, "head": entry.graphs["head.16"]}
    small.pop("head.16")
    variants = {"onnx24-fp32": replace(entry, graphs=small, kv={"capacity": 16})}
    write_manifest(replace(manifest, variants=variants, default="onnx24-fp32"), out)
    runtime = Runtime.open(out, threads=1)
    assert runtime.backend.limits.max_length == 16
    assert len(runtime.caption(encoded, options=GenerationOptions(max_new_tokens=12))) == 5
    with pytest.raises(UsageError, match="max_new_tokens is 13, but this model holds 12"):
        runtime.caption(encoded, options=GenerationOptions(max_new_tokens=13))
    with pytest.raises(UsageError, match=r"capacity of 17 tokens .* at most 16"):
        runtime.backend.start(encoded.prefix, 17)


def test_a_cache_that_does_not_hold_a_prefix_is_refused(compiled: Path, tmp_path: Path) -> None:
    out = tiny_artefact.copy(compiled, tmp_path)
    manifest = read_manifest(out)
    entry = replace(manifest.variant("onnx24-fp32"), kv={"capacity": 4})
    write_manifest(replace(manifest, variants={"onnx24-fp32": entry}), out)
    with pytest.raises(ModelError, match="promises 5 tokens, and the variant's cache holds 4"):
        Runtime.open(out, variant="onnx24-fp32")


def joined() -> GraphEntry:
    return GraphEntry(file="head.onnx", joined=True)


def test_a_joined_head_is_fed_marks_for_its_prefix() -> None:
    prefix = np.ones((2, 3, 4), np.float32)
    found = fed(joined(), prefix, np.array([[7, 8], [9, 5]]))
    assert found["tokens"].tolist() == [[-1, -1, -1, 7, 8], [-1, -1, -1, 9, 5]]
    assert found["prefix"].shape == (2, 5, 4)
    assert (found["prefix"][:, :3] == 1).all() and not found["prefix"][:, 3:].any()


def test_a_step_reads_the_very_buffer_of_its_tokens() -> None:
    tokens = np.array([[7], [9]])
    found = fed(joined(), np.empty((2, 0, 4), np.float32), tokens)
    assert found["tokens"] is tokens
    assert found["prefix"].shape == (2, 1, 4)


def test_another_head_is_fed_what_it_was_given() -> None:
    prefix, tokens = np.ones((2, 3, 4), np.float32), np.zeros((2, 0), np.int64)
    found = fed(GraphEntry(file="head.onnx"), prefix, tokens)
    assert found["prefix"] is prefix and found["tokens"] is tokens
