"""What recipes leave out: architecture, pixels and prompt, from presets and from files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.plugins.florence2.tiny_florence import (
    ARCHITECTURE,
    SIZE,
    original_config,
    tiny_model,
    write_native,
    write_original,
    write_processor,
)
from tests.source import ROOT
from vlv_core.config import convert, to_dict
from vlv_core.errors import ConfigError, ModelError
from vlv_core.specs import Near, PixelSpec, Source
from vlv_plugins.florence2._architecture import text_config, trimmed, vision_config
from vlv_plugins.florence2._bottleneck import build as build_bottleneck
from vlv_plugins.florence2._complete import complete_bottleneck, complete_encoder, read_pixels
from vlv_plugins.florence2._encoder import build as build_encoder
from vlv_plugins.florence2._encoder import vision_of
from vlv_plugins.florence2.config import (
    PIXELS,
    PROMPT_IDS,
    BottleneckConfig,
    EncoderConfig,
    pretrained,
)

PUBLISHED = {"base": (0.23, 768), "large": (0.77, 1024)}
"""billions of parameters and width, as Florence-2's paper and model cards state them"""


def nowhere(source: Source) -> Path:
    raise AssertionError(f"{source} was fetched")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_original(tiny_model(), tmp_path / "florence")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_need_no_files_and_have_their_size(name: str) -> None:
    model = f"microsoft/Florence-2-{name}"
    seeing = complete_encoder(EncoderConfig(model=model), nowhere)
    reading = complete_bottleneck(BottleneckConfig(model=model), nowhere)
    assert seeing.pixels == PIXELS and reading.prompt_ids == PROMPT_IDS
    billions, width = PUBLISHED[name]
    with torch.device("meta"):
        encoder = build_encoder(seeing, Near(view_size=384))
        near = Near(num_tokens=encoder.num_tokens, token_dim=encoder.dim, embedding_dim=1024)
        bottleneck = build_bottleneck(reading, near)
    assert (encoder.num_tokens, encoder.dim, bottleneck.dim) == (577, width, 1024)
    parts = (encoder, bottleneck.language_model)
    assert round(sum(p.numel() for part in parts for p in part.parameters()) / 1e9, 2) == billions


def test_configs_come_back_from_a_model_folder(folder: Path) -> None:
    encoder = complete_encoder(EncoderConfig(model="x/y"), lambda source: folder)
    bottleneck = complete_bottleneck(BottleneckConfig(model="x/y"), lambda source: folder)
    assert convert(EncoderConfig, to_dict(encoder), "model.toml") == encoder
    assert convert(BottleneckConfig, to_dict(bottleneck), "model.toml") == bottleneck


def test_both_namings_of_the_configuration_mean_the_same(tmp_path: Path) -> None:
    write_native(tiny_model(), tmp_path)
    native = json.loads((tmp_path / "config.json").read_text())
    for one, other in (
        (vision_of(vision_config(native)), vision_of(vision_config(original_config()))),
        (text_config(native), text_config(original_config())),
    ):
        kept = {key: value for key, value in one.to_dict().items() if not key.startswith("_")}
        same = {key: value for key, value in other.to_dict().items() if key in kept}
        for key in ("dtype", "transformers_version"):
            kept.pop(key, None), same.pop(key, None)
        assert kept == same


def test_only_a_models_half_is_kept(folder: Path) -> None:
    encoder = complete_encoder(EncoderConfig(model="x/y"), lambda source: folder)
    bottleneck = complete_bottleneck(BottleneckConfig(model="x/y"), lambda source: folder)
    assert set(encoder.architecture) == {"model_type", "vision_config"}
    assert set(bottleneck.architecture) == {"model_type", "text_config"}
    assert encoder.architecture["vision_config"]["embed_dim"] == [8, 16, 24, 32]
    assert "num_beams" not in bottleneck.architecture["text_config"]


def test_what_is_filled_already_stays() -> None:
    encoder = EncoderConfig(architecture=ARCHITECTURE, pixels=PixelSpec(size=SIZE))
    assert complete_encoder(encoder, nowhere) == encoder
    bottleneck = BottleneckConfig(architecture=ARCHITECTURE, prompt_ids=(0, 5, 2))
    assert complete_bottleneck(bottleneck, nowhere) == bottleneck


def test_pixels_are_the_processors_own(folder: Path) -> None:
    config = complete_encoder(EncoderConfig(model="x/y"), lambda source: folder)
    assert config.pixels == PixelSpec(
        size=SIZE, fit="squash", resample="bicubic", mean=PIXELS.mean, std=PIXELS.std
    )
    write_processor(folder, resample=2, image_mean=[0.5, 0.5, 0.5])
    config = complete_encoder(EncoderConfig(model="x/y"), lambda source: folder)
    assert config.pixels is not None
    assert (config.pixels.resample, config.pixels.mean) == ("bilinear", (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    "changes",
    [{"do_center_crop": True}, {"size": {"height": 64, "width": 32}}, {"resample": 9},
     {"size": {"shortest_edge": 64}}, {"size": 64}, {"rescale_factor": 0.5},
     {"do_normalize": False}, {"do_rescale": False}, {"do_resize": False}],
)  # fmt: skip
def test_processors_of_another_kind_are_refused(folder: Path, changes: dict[str, Any]) -> None:
    write_processor(folder, **changes)
    with pytest.raises(ConfigError, match=r"preprocessor_config\.json: .* is not supported"):
        complete_encoder(EncoderConfig(model="x/y"), lambda source: folder)


def test_the_published_processor_is_the_default() -> None:
    file = ROOT.parent / "shared/data/florence-2-large/preprocessor_config.json"
    if not file.is_file():
        pytest.skip("the published Florence-2-large processor is not on this machine")
    assert read_pixels(json.loads(file.read_text())) == PIXELS


def test_the_published_tokenizer_gives_the_prompt() -> None:
    folder = ROOT.parent / "shared/data/florence-2-large"
    if not folder.is_dir():
        pytest.skip("the published Florence-2-large tokenizer is not on this machine")
    config = complete_bottleneck(BottleneckConfig(model="x/y"), lambda source: folder)
    assert config.prompt_ids == PROMPT_IDS


def test_a_models_own_tokenizer_reads_the_prompt(folder: Path) -> None:
    words = {"<unk>": 3, "What": 4, "does": 5, "the": 6, "image": 7, "describe": 8, "?": 9}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    task = BottleneckConfig(model="x/y", prompt="<CAPTION>")
    ids = complete_bottleneck(task, lambda source: folder).prompt_ids
    assert ids == (0, 4, 5, 6, 7, 8, 9, 2)
    own = BottleneckConfig(model="x/y", prompt="the image")
    assert complete_bottleneck(own, lambda source: folder).prompt_ids == (0, 6, 7, 2)


def test_another_prompt_needs_a_tokenizer(folder: Path) -> None:
    config = BottleneckConfig(model="x/y", prompt="<CAPTION>")
    with pytest.raises(ModelError, match=r"has no 'tokenizer\.json', which the prompt '<CAPTION>'"):
        complete_bottleneck(config, lambda source: folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "clip"}, "model_type 'clip' is not supported; known: 'florence2'"),
        (
            {"vision_config": {"visual_temporal_embedding": {"type": "LEARNED"}}},
            "visual_temporal_embedding: 'LEARNED' is not supported",
        ),
        (
            {"vision_config": {"image_feature_source": ["last_frame"]}},
            "image_feature_source: .'last_frame'. is not supported",
        ),
    ],
)
def test_other_architectures_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        trimmed(original_config() | change)


def test_a_configuration_without_its_half_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "florence2"}))
    with pytest.raises(ConfigError, match=r"config\.json has no 'vision_config'"):
        complete_encoder(EncoderConfig(model="x/y"), lambda source: folder)


def test_only_weights_are_fetched() -> None:
    source = pretrained(EncoderConfig(model="owner/name"))
    assert source.location == "owner/name"
    assert all(".safetensors" in pattern for pattern in source.files)
