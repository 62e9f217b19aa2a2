"""Every variant runs by the same loop: caches in place, rows apart, garbage unseen."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from tests.export import tiny_artefact
from vlv_core.captioner import Captioner
from vlv_core.errors import ModelError
from vlv_core.generation import GenerationOptions
from vlv_core.protocols import Encoded
from vlv_export import Runtime, parity
from vlv_export.parity.report import Level
from vlv_export.runtime.cache import KvCache

CLOSE = {"fp32": 1e-5, "fp16": 5e-3, "int8": 0.1, "int4": 0.5}
"""how far the encoder's prefix may be from torch's, as a share of its norm"""
OPTIONS = (
    GenerationOptions(max_new_tokens=12, stop_on_repetition=False),
    GenerationOptions(max_new_tokens=12, temperature=1.0, seed=3),
    GenerationOptions(max_new_tokens=12, beams=3, stop_on_repetition=False),
)


@pytest.fixture(scope="module")
def out(tiny: Any, captioner: Captioner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    neutral = {part: tiny[1][part] for part in ("encoder", "head")}
    folder = tmp_path_factory.mktemp("variants") / "OUT"
    return tiny_artefact.make(captioner, neutral, folder, dtypes=tuple(CLOSE))


@pytest.fixture(scope="module")
def encoded() -> Encoded:
    prefix = 5 * np.random.default_rng(0).standard_normal((5, 4, 16)).astype(np.float32)
    return Encoded(prefix, prefix, None, prefix)


def words(captioner: Captioner, encoded: Encoded) -> list[list[tuple[int, ...]]]:
    keys = range(len(encoded))
    return [
        [each.tokens for each in captioner.caption(encoded, options=options, keys=keys)]
        for options in OPTIONS
    ]


@pytest.mark.parametrize("dtype", CLOSE)
def test_each_variant_encodes_as_closely_as_its_numbers_allow(
    dtype: str, out: Path, captioner: Captioner
) -> None:
    runtime = Runtime.open(out, variant=f"onnx-{dtype}", threads=1)
    picture = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    found, wanted = runtime.encode(picture).prefix, captioner.encode(picture).prefix
    assert found.dtype == np.float32
    assert np.linalg.norm(found - wanted) <= CLOSE[dtype] * np.linalg.norm(wanted)


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_portable_variants_say_what_torch_says(
    dtype: str, out: Path, captioner: Captioner, encoded: Encoded
) -> None:
    runtime = Runtime.open(out, variant=f"onnx-{dtype}", threads=1)
    assert words(runtime, encoded)[0] == words(captioner, encoded)[0]
    kinds = {layer.dtype for layer in runtime.backend.head.layers}
    assert kinds == {"float16" if dtype == "fp16" else "float32"}


@pytest.mark.parametrize("dtype", CLOSE)
def test_rows_do_not_disturb_one_another(dtype: str, out: Path, encoded: Encoded) -> None:
    runtime = Runtime.open(out, variant=f"onnx-{dtype}", threads=1)
    together = words(runtime, encoded)
    for row in range(len(encoded)):
        alone = encoded[slice(row, row + 1)]
        for options, said in zip(OPTIONS, together, strict=True):
            found = runtime.caption(alone, options=options, keys=[row])
            assert found[0].tokens == said[row]


@pytest.mark.parametrize("dtype", CLOSE)
def test_no_variant_sees_beyond_the_used_cache(
    dtype: str, out: Path, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = words(Runtime.open(out, variant=f"onnx-{dtype}", threads=1), encoded)
    allocate = KvCache._allocate

    def dirty(cache: KvCache, layers: Any) -> None:
        allocate(cache, layers)
        for blocks in cache._blocks:
            for block in blocks:
                block[:] = 1e4

    monkeypatch.setattr(KvCache, "_allocate", dirty)
    assert words(Runtime.open(out, variant=f"onnx-{dtype}", threads=1), encoded) == wanted


def built(out: Path) -> None:
    """Let the default variant be one that nobody has run."""
    tiny_artefact.edit(out, state="built")


def outcome(state: Literal["passed", "failed", "not run"], reason: str = "") -> parity.Report:
    level = Level(level="L1", state=state, reason=reason)
    return parity.Report(model="tiny", variant="onnx-fp32", dtype="fp32", levels=(level,))


@pytest.fixture
def unproved(artefact: Path, tmp_path: Path) -> Path:
    """An artefact whose variant nobody has run, with a golden file that nobody can read."""
    out = tiny_artefact.copy(artefact, tmp_path)
    (out / "golden.safetensors").write_bytes(b"golden")
    tiny_artefact.relist(out)
    built(out)
    return out


def test_an_unproved_variant_is_proved_first(
    unproved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def passes(*given: Any, **named: Any) -> parity.Report:
        asked.append((given, named))
        return outcome("passed")

    monkeypatch.setattr(parity, "check", passes)
    assert Runtime.open(unproved, threads=1).variant == "onnx-fp32"
    assert asked == [((unproved, "onnx-fp32", ["L1"]), {"threads": 1})]


@pytest.mark.parametrize("state", ["failed", "not run"])
def test_a_variant_that_fails_its_proof_is_refused(
    state: Any, unproved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "check", lambda *_, **__: outcome(state, "it is odd"))
    with pytest.raises(ModelError, match=r"'onnx-fp32' was never proved, .*: .*it is odd"):
        Runtime.open(unproved, threads=1)


def test_a_damaged_golden_file_proves_nothing(unproved: Path) -> None:
    with pytest.raises(ModelError, match=r"golden\.safetensors"):
        Runtime.open(unproved, threads=1)
    (unproved / "golden.safetensors").write_bytes(b"olden_")
    with pytest.raises(ModelError, match=r"golden\.safetensors was changed"):
        Runtime.open(unproved, threads=1)


def test_what_cannot_be_proved_is_refused(artefact: Path, tmp_path: Path) -> None:
    out = tiny_artefact.copy(artefact, tmp_path)
    built(out)
    with pytest.raises(ModelError, match=r"does not list 'golden\.safetensors'"):
        Runtime.open(out, threads=1)
