"""The runtime says and draws what torch does, whatever the options, batches and buffers."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.export import tiny_artefact
from vlv_core.captioner import Captioner
from vlv_core.errors import ModelError, UsageError
from vlv_core.generation import GenerationOptions
from vlv_core.protocols import Caption, Encoded
from vlv_export import Runtime
from vlv_export.manifest import read_manifest
from vlv_export.runtime import head as head_module
from vlv_export.runtime.cache import KvCache

OPTIONS = {
    "default": None,
    "greedy": GenerationOptions(max_new_tokens=12, stop_on_repetition=False),
    "sampling": GenerationOptions(max_new_tokens=20, temperature=1.0, seed=3),
    "nucleus": GenerationOptions(max_new_tokens=20, temperature=0.8, top_p=0.7, top_k=20, seed=1),
    "beams": GenerationOptions(max_new_tokens=16, beams=4, stop_on_repetition=False),
    "beams, first ends": GenerationOptions(max_new_tokens=16, beams=4, early_stopping=True),
    "beams, long": GenerationOptions(
        max_new_tokens=16, beams=4, length_penalty=2.0, early_stopping="never"
    ),
}


@pytest.fixture(scope="module")
def runtime(artefact: Path) -> Runtime:
    return Runtime.open(artefact, parts="all", threads=1)


@pytest.fixture(scope="module")
def pictures() -> list[NDArray[np.uint8]]:
    generator = np.random.default_rng(4)
    noisy = [generator.integers(0, 256, (48, 80, 3), dtype=np.uint8) for _ in range(3)]
    return [*noisy, *(np.full((64, 64, 3), 60 * level, np.uint8) for level in range(4))]


@pytest.fixture(scope="module")
def encoded() -> Encoded:
    """Random prefixes: to random weights all pictures are much the same."""
    prefix = 5 * np.random.default_rng(0).standard_normal((7, 4, 16)).astype(np.float32)
    return Encoded(prefix, prefix, None, prefix)


@pytest.fixture
def many_ends(captioner: Captioner, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """One token of eight ends a caption, so that rows leave at different steps."""
    for each in (captioner, runtime):
        monkeypatch.setattr(each.backend, "eos", tuple(range(0, 512, 8)))


def same(found: Sequence[Caption], wanted: Sequence[Caption]) -> None:
    assert [each.tokens for each in found] == [each.tokens for each in wanted]
    assert [each.text for each in found] == [each.text for each in wanted]
    assert [each.finish_reason for each in found] == [each.finish_reason for each in wanted]
    np.testing.assert_allclose(
        [each.logprob for each in found], [each.logprob for each in wanted], atol=1e-4
    )


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_embeddings_are_those_of_torch(
    batch: int, runtime: Runtime, captioner: Captioner, pictures: Any
) -> None:
    found, wanted = runtime.encode(pictures[:batch]), captioner.encode(pictures[:batch])
    for name in ("z", "context", "prefix"):
        assert getattr(found, name).shape == getattr(wanted, name).shape
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), atol=1e-5)
    assert found.pooled is None


@pytest.mark.parametrize("name", OPTIONS)
def test_captions_are_those_of_torch(
    name: str, runtime: Runtime, captioner: Captioner, pictures: Any, encoded: Encoded
) -> None:
    for given in (pictures, encoded):
        keys = range(10, 10 + len(given))
        found = runtime.caption(given, options=OPTIONS[name], keys=keys)
        same(found, captioner.caption(given, options=OPTIONS[name], keys=keys))


@pytest.mark.usefixtures("many_ends")
@pytest.mark.parametrize("name", OPTIONS)
def test_rows_that_end_early_leave_the_others_as_they_are(
    name: str, runtime: Runtime, captioner: Captioner, encoded: Encoded
) -> None:
    keys = range(len(encoded))
    found = runtime.caption(encoded, options=OPTIONS[name], keys=keys)
    same(found, captioner.caption(encoded, options=OPTIONS[name], keys=keys))
    if name == "sampling":
        assert len({len(each.tokens) for each in found}) > 3


@pytest.mark.parametrize("name", ["greedy", "sampling", "beams"])
def test_a_row_alone_is_the_row_in_a_batch(name: str, runtime: Runtime, encoded: Encoded) -> None:
    keys = range(len(encoded))
    together = runtime.caption(encoded, options=OPTIONS[name], keys=keys)
    for key in keys:
        alone = encoded[slice(key, key + 1)]
        same(runtime.caption(alone, options=OPTIONS[name], keys=[key]), [together[key]])


@pytest.mark.parametrize("row", range(3))
def test_pieces_of_a_stream_join_to_the_caption(
    row: int, runtime: Runtime, captioner: Captioner, encoded: Encoded
) -> None:
    given, options = encoded[slice(row, row + 1)], OPTIONS["sampling"]
    pieces = list(runtime.stream(given, options=options, key=5))
    assert "".join(pieces) == captioner.caption(given, options=options, keys=[5])[0].text
    assert len(pieces) > 1


def test_two_streams_at_once_do_not_meet(runtime: Runtime, pictures: Any) -> None:
    alone = [runtime.caption(each, options=OPTIONS["greedy"])[0].text for each in pictures[:2]]
    streams = [runtime.stream(each, options=OPTIONS["greedy"]) for each in pictures[:2]]
    said = ["", ""]
    for pieces in zip(*streams, strict=True):
        said = [text + piece for text, piece in zip(said, pieces, strict=True)]
    assert said == alone


def test_pictures_are_redrawn_as_by_torch(
    runtime: Runtime, captioner: Captioner, pictures: Any
) -> None:
    given = {"seed": 7, "steps": 3, "guidance": 2.0, "keys": [4, 5]}
    found = runtime.reconstruct(pictures[:2], **given)
    wanted = captioner.reconstruct(pictures[:2], **given)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_captions_are_drawn_as_by_torch(runtime: Runtime, captioner: Captioner) -> None:
    captions = ["a red circle in the top left.", ""]
    found, wanted = runtime.from_text(captions), captioner.from_text(captions)
    np.testing.assert_allclose(found.context, wanted.context, atol=1e-5)
    drawn = runtime.reconstruct(found, seed=1, steps=2)
    assert np.abs(drawn.astype(int) - captioner.reconstruct(wanted, seed=1, steps=2)).max() <= 1


def test_mixed_embeddings_are_read_as_by_torch(
    runtime: Runtime, captioner: Captioner, pictures: Any
) -> None:
    z = captioner.encode(pictures[:2]).z
    found, wanted = (each.mix([z[0], z[1]], keep=[1, 4]) for each in (runtime, captioner))
    np.testing.assert_allclose(found.prefix, wanted.prefix, atol=1e-5)
    assert found.prefix.shape[1] == 5
    same(runtime.caption(found), captioner.caption(wanted))


@pytest.fixture
def fresh(artefact: Path) -> Runtime:
    """A runtime without buffers yet."""
    return Runtime.open(artefact, threads=1)


VARIED = ("greedy", "sampling", "beams")


def every(runtime: Runtime, encoded: Encoded) -> Iterator[list[Caption]]:
    keys = range(len(encoded))
    return (runtime.caption(encoded, options=OPTIONS[name], keys=keys) for name in VARIED)


def test_garbage_beyond_the_used_cache_changes_nothing(
    fresh: Runtime, runtime: Runtime, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = KvCache._allocate

    def dirty(cache: KvCache, layers: Any) -> None:
        clean(cache, layers)
        for blocks in cache._blocks:
            for block in blocks:
                block[:] = 1e4

    monkeypatch.setattr(KvCache, "_allocate", dirty)
    found = list(every(fresh, encoded))
    cache = fresh.backend.head._pool[0][0]
    assert (cache.tensors(1, side=0)["0.key"] == 1e4).any(), "the garbage was there"
    for each, wanted in zip(found, every(runtime, encoded), strict=True):
        same(each, wanted)


def test_caches_that_grow_change_nothing(
    fresh: Runtime, runtime: Runtime, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_module, "ROOM", 1)
    monkeypatch.setattr(head_module, "BLOCK", 1)
    for each, wanted in zip(every(fresh, encoded), every(runtime, encoded), strict=True):
        same(each, wanted)
    sizes = {cache.capacity for cache, _ in fresh.backend.head._pool}
    assert len(sizes) > 2, "it did grow"


def test_a_variant_that_writes_beside_its_past_says_the_same(
    artefact: Path, runtime: Runtime, encoded: Encoded, tmp_path: Path
) -> None:
    out = tiny_artefact.copy(artefact, tmp_path)
    graphs = read_manifest(out).variant(None).graphs
    tiny_artefact.edit(out, graphs={**graphs, "head": replace(graphs["head"], shared_cache=False)})
    beside = Runtime.open(out, threads=1)
    assert (beside.backend.head.sides, runtime.backend.head.sides) == (2, 1)
    for each, wanted in zip(every(beside, encoded), every(runtime, encoded), strict=True):
        same(each, wanted)


def test_equal_requests_use_the_same_buffers(
    fresh: Runtime, pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    bind = fresh.backend.head.bind

    def counted(*given: Any, **named: Any) -> Any:
        made.append(named["tokens"].shape[1])
        return bind(*given, **named)

    monkeypatch.setattr(fresh.backend.head, "bind", counted)
    first = fresh.caption(pictures[:2], options=OPTIONS["greedy"])
    assert made.count(1) <= 2, "one for two rows, perhaps one for the last row: none a step"
    del made[:]
    same(fresh.caption(pictures[:2], options=OPTIONS["greedy"]), first)
    assert made == [0], "the prefill alone is bound anew"
    assert len(fresh.backend.head._pool) == 1


def test_a_cache_that_overflowed_is_not_used_again(fresh: Runtime, pictures: Any) -> None:
    encoded = fresh.encode(pictures[:2])
    wrong = replace(encoded, prefix=encoded.prefix * np.float32(np.nan))
    with pytest.raises(Exception, match="not a number"):
        fresh.caption(wrong, options=OPTIONS["greedy"])
    assert not fresh.backend.head._pool
    assert fresh.caption(encoded, options=OPTIONS["greedy"])


def test_rows_may_share_one_prefix_object(runtime: Runtime, pictures: Any) -> None:
    encoded = runtime.encode(pictures[:1])
    twice = replace(encoded, z=encoded.z[[0, 0]], prefix=encoded.prefix[[0, 0]])
    first, second = runtime.caption(twice, options=OPTIONS["greedy"])
    assert first == second


def test_a_capacity_beyond_the_model_is_refused(runtime: Runtime, pictures: Any) -> None:
    prefix = runtime.encode(pictures[0]).prefix
    with pytest.raises(UsageError, match=r"capacity of 25 tokens .* at most 24"):
        runtime.backend.start(prefix, 25)
    with pytest.raises(UsageError, match="max_new_tokens is 21, but this model holds 20"):
        runtime.caption(pictures[0], options=GenerationOptions(max_new_tokens=21))


def test_without_the_diffusion_nothing_is_drawn(fresh: Runtime, pictures: Any) -> None:
    with pytest.raises(UsageError, match="loaded without its diffusion"):
        fresh.reconstruct(pictures[0], seed=0)
    assert set(fresh.backend.sessions._open) == {"encoder", "head"}


def test_an_artefact_for_captions_alone_says_what_it_lacks(
    tiny: Any, captioner: Captioner, pictures: Any, tmp_path: Path
) -> None:
    neutral = {part: tiny[1][part] for part in ("encoder", "head")}
    out = tiny_artefact.make(captioner, neutral, tmp_path / "OUT")
    runtime = Runtime.open(out, threads=1)
    same(runtime.caption(pictures), captioner.caption(pictures))
    z = runtime.encode(pictures[0]).z
    with pytest.raises(ModelError, match="no part 'condition'; it has encoder, head"):
        runtime.mix([z], keep=[2])
    with pytest.raises(UsageError, match="cannot read captions"):
        runtime.from_text(["a"])
    with pytest.raises(ModelError, match="no part 'denoiser'"):
        Runtime.open(out, parts="all")
