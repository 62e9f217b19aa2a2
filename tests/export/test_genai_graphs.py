"""The three graphs alone, run by onnxruntime against the graphs that they are cut from."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from tests.export import genai_packages
from tests.export.conftest import Tiny
from vlv_core.parts import ExportPart
from vlv_export.genai.placeholders import Placeholders
from vlv_export.lowering._variant import build_variant

PLACEHOLDERS = Placeholders(512, 4)
"""of the tiny model"""
Arrays = dict[str, NDArray[np.generic]]


@pytest.fixture(scope="module", params=["fp32", "int8"])
def folders(
    request: pytest.FixtureRequest,
    tiny: Tiny,
    artefact: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path]:
    """A package, and the variant of encoder and head that it is cut from."""
    home = tmp_path_factory.mktemp(request.param)
    genai_packages.make(tiny[1], artefact, home / "package", dtype=request.param)
    parts = {part: tiny[1][part] for part in ("encoder", "head")}
    build_variant(parts, home / "variant", dtype=request.param)
    return home / "package", home / "variant"


def test_vision_is_the_encoder_s_prefix_row_by_row(folders: tuple[Path, Path]) -> None:
    package, variant = folders
    view = genai_packages.views(3)
    planes = view.transpose(0, 3, 1, 2)[None].astype(np.float32)
    (prefix,) = _run(variant / "encoder.onnx", {"view": view}, "prefix")
    (features,) = _run(package / "vision.onnx", {"pixel_values": planes}, "image_features")
    assert features.shape == (3 * 4, 16)
    assert np.array_equal(features, prefix.reshape(12, 16))


def test_vision_rounds_what_a_processor_left_a_hair_off(folders: tuple[Path, Path]) -> None:
    package, _ = folders
    planes = genai_packages.views(1).transpose(0, 3, 1, 2)[None].astype(np.float32)
    exact, off = (
        _run(package / "vision.onnx", {"pixel_values": each}, "image_features")[0]
        for each in (planes, planes - np.float32(1e-3))
    )
    assert np.array_equal(exact, off)


def test_embedding_puts_features_where_placeholders_stand(folders: tuple[Path, Path]) -> None:
    package, _ = folders
    first, second, third = PLACEHOLDERS.tokens.values()
    features = np.arange(6 * 16, dtype=np.float32).reshape(6, 16)
    ids = np.array([[second, first, third, 7], [9, first, first, third]], np.int64)
    found = _embeds(package, ids, features)
    assert np.array_equal(found[0, :3], features[:3])
    assert np.array_equal(found[1, 1:], features[3:])
    words = _embeds(package, np.array([[7, 9]], np.int64), features[:0])
    assert np.array_equal(found[0, 3], words[0, 0])
    assert np.array_equal(found[1, 0], words[0, 1])
    assert not np.array_equal(words[0, 0], words[0, 1])


def test_embedding_gathers_the_head_s_own_table(folders: tuple[Path, Path], tiny: Tiny) -> None:
    """fp32 to the bit; int8 within half a step of its scale."""
    package, _ = folders
    table = tiny[0]["head"].module.model.embed_tokens.weight.detach().numpy()
    ids = np.array([[0, 511, 44]], np.int64)
    found = _embeds(package, ids, np.zeros((0, 16), np.float32))
    exact = package.parent.name.startswith("fp32")
    assert np.abs(found[0] - table[ids[0]]).max() <= (0.0 if exact else np.abs(table).max() / 200)


def test_decoder_says_what_the_head_says(folders: tuple[Path, Path], tiny: Tiny) -> None:
    """Prefill, then two steps, against the head's prefix and tokens; int8 alike, for both are."""
    package, variant = folders
    prefix = np.random.default_rng(0).standard_normal((2, 4, 16)).astype(np.float32)
    embeds, total = prefix, 4
    ours, theirs = _empty(tiny[0]["head"], rows=2), _empty(tiny[0]["head"], rows=2)
    tokens = np.zeros((2, 0), np.int64)
    for step in range(3):
        mask = np.ones((2, total), np.int64)
        given = {"inputs_embeds": embeds, "attention_mask": mask, **ours}
        found, ours = _step(package / "decoder.onnx", given)
        position = np.full(2, total - embeds.shape[1], np.int64)
        rest = {"prefix": prefix, "tokens": tokens, "position": position, "k": np.array([1])}
        expected, theirs = _step(variant / "head.onnx", {**rest, **theirs})
        assert found.shape == (2, 1, PLACEHOLDERS.total)
        assert np.allclose(found[:, 0, :512], expected, atol=1e-5)
        assert np.isneginf(found[:, 0, 512:]).all()
        tokens = np.array([[5], [400]]) + step
        embeds = _embeds(package, tokens, np.zeros((0, 16), np.float32))
        prefix, total = prefix[:, :0], total + 1


def _embeds(
    package: Path, ids: NDArray[np.int64], features: NDArray[np.float32]
) -> NDArray[np.float32]:
    inputs: Arrays = {"input_ids": ids, "image_features": features}
    return _run(package / "embedding.onnx", inputs, "inputs_embeds")[0]  # type: ignore[return-value]


def _empty(head: ExportPart, *, rows: int) -> Arrays:
    """A cache for 12 tokens."""
    sizes = {"batch": rows, "capacity": 12}
    return {
        spec.name: np.zeros(spec.sizes(sizes), np.float32)
        for spec in head.inputs
        if spec.name.startswith("past.")
    }


def _step(path: Path, inputs: Arrays) -> tuple[NDArray[np.float32], Arrays]:
    """Logits, and the cache for the next step."""
    names = [name for name in inputs if name.startswith("past.")]
    present = [name.replace("past.", "present.", 1) for name in names]
    logits, *cache = _run(path, inputs, "logits", *present)
    return logits, dict(zip(names, cache, strict=True))  # type: ignore[return-value]


def _run(path: Path, inputs: Arrays, *outputs: str) -> list[NDArray[np.generic]]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return list(session.run(list(outputs), inputs))
