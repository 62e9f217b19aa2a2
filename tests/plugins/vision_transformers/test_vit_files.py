"""What the encoder takes from published files: weights, architecture, how pixels are made."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModel, ViTConfig, ViTForImageClassification

from tests.plugins.vision_transformers.test_vit_forward import made
from tests.plugins.vision_transformers.tiny_models import (
    ARCHITECTURES,
    KINDS,
    expected,
    library_model,
    noise,
)
from vlv_core import Near, PixelSpec, Source
from vlv_core.config import convert, to_dict
from vlv_core.errors import ConfigError, ModelError
from vlv_plugins import _hub
from vlv_plugins.vision_transformers import _files
from vlv_plugins.vision_transformers._encoder import build
from vlv_plugins.vision_transformers._families import vision_table
from vlv_plugins.vision_transformers.config import VisionTransformerConfig, pretrained

PARAMETERS = {
    # Counts of the vision towers as their authors and timm state them, in millions.
    "openai/clip-vit-large-patch14": 303.18,
    "google/siglip-so400m-patch14-384": 428.23,
    "google/siglip2-base-patch16-256": 92.93,
    "google/siglip2-so400m-patch14-384": 428.23,
    "facebook/dinov2-base": 86.58,
    "facebook/dinov2-large": 304.37,
    "facebook/dinov2-with-registers-base": 86.58,
    "facebook/dinov3-vitb16-pretrain-lvd1689m": 85.66,
    "google/vit-base-patch16-224": 85.80,
}
TOKENS = {
    "openai/clip-vit-large-patch14": (256, 1024),
    "google/siglip-so400m-patch14-384": (729, 1152),
    "google/siglip2-base-patch16-256": (256, 768),
    "google/siglip2-so400m-patch14-384": (729, 1152),
    "facebook/dinov2-base": (256, 768),
    "facebook/dinov2-large": (256, 1024),
    "facebook/dinov2-with-registers-base": (256, 768),
    "facebook/dinov3-vitb16-pretrain-lvd1689m": (196, 768),
    "google/vit-base-patch16-224": (196, 768),
}
ZEROS, ONES = [0, 0, 0], [1, 1, 1]


def no_fetching(source: Source) -> Path:
    raise AssertionError(f"fetches {source}")


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def serving(folder: Path, **files: Any) -> Callable[[Source], Path]:
    """A hub that has config.json and preprocessor_config.json."""
    folder.mkdir(exist_ok=True)
    for name, table in files.items():
        (folder / f"{name}.json").write_text(json.dumps(table))
    return lambda _: folder


def test_every_preset_has_a_published_count() -> None:
    assert set(_hub.presets("vlv_plugins.vision_transformers")) == set(PARAMETERS) == set(TOKENS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_presets_have_the_published_sizes(name: str) -> None:
    config = _files.complete(VisionTransformerConfig(model=name), no_fetching)
    kind, table = vision_table(config.architecture)
    with torch.device("meta"):
        options = {key: value for key, value in table.items() if key != "model_type"}
        extra = {"add_pooling_layer": False} if kind == "vit" else {}
        whole = AutoModel.from_config(AutoConfig.for_model(kind, **options), **extra)
        encoder = build(config, Near(view_size=384))
    assert count(whole) / 1e6 == pytest.approx(PARAMETERS[name], abs=0.006)
    # What no token depends on is not built: SigLIP's pooling head, the mask token.
    unused = count(getattr(whole, "head", nn.Identity()))
    mask = getattr(whole.embeddings, "mask_token", None)
    assert count(encoder) == count(whole) - unused - (0 if mask is None else mask.numel())
    assert (encoder.num_tokens, encoder.dim) == TOKENS[name]


def test_presets_say_how_pixels_are_made() -> None:
    def pixels(name: str, size: int = 0) -> PixelSpec:
        config = VisionTransformerConfig(model=name, image_size=size)
        found = _files.complete(config, no_fetching).pixels
        assert found is not None
        return found

    clip = pixels("openai/clip-vit-large-patch14")
    assert (clip.size, clip.fit, clip.edge, clip.resample) == (224, "crop", None, "bicubic")
    assert clip.mean == (0.48145466, 0.4578275, 0.40821073)
    dino = pixels("facebook/dinov2-base")
    assert (dino.size, dino.fit, dino.edge, dino.resample) == (224, "crop", 256, "bicubic")
    assert pixels("facebook/dinov2-base", 448) == replace(dino, size=448, edge=512)
    siglip = pixels("google/siglip2-base-patch16-256")
    assert siglip == PixelSpec(size=256, fit="squash", resample="bilinear")
    assert pixels("google/siglip-so400m-patch14-384").resample == "bicubic"
    assert pixels("google/vit-base-patch16-224") == PixelSpec(size=224, resample="bilinear")


def test_a_completed_config_goes_through_toml_and_is_left_alone() -> None:
    config = _files.complete(VisionTransformerConfig(model="facebook/dinov2-base"), no_fetching)
    again = convert(VisionTransformerConfig, to_dict(config), "encoder")
    assert again == config
    assert _files.complete(again, no_fetching) is again


def test_files_of_other_models_are_fetched(tmp_path: Path) -> None:
    wanted: list[Source] = []
    hub = serving(
        tmp_path,
        config={"text_config": {"vocab_size": 9}, "dtype": None, **ARCHITECTURES["siglip"]},
        preprocessor_config={
            "size": 16,
            "resample": 2,
            "image_mean": [0] * 3,
            "image_std": [1] * 3,
        },
    )

    def fetch(source: Source) -> Path:
        wanted.append(source)
        return hub(source)

    config = _files.complete(VisionTransformerConfig(model="me/mine"), fetch)
    assert wanted == [Source("me/mine", files=("config.json", "preprocessor_config.json"))]
    assert config.architecture["model_type"] == "siglip_vision_model"
    assert config.pixels == PixelSpec(16, "squash", "bilinear", (0.0,) * 3, (1.0,) * 3)
    assert build(config, Near()).num_tokens == 16


def test_pixels_of_the_recipe_need_no_processor_file(tmp_path: Path) -> None:
    pixels = PixelSpec(size=16, mean=(0.1, 0.2, 0.3))
    config = VisionTransformerConfig(model="me/mine", pixels=pixels)
    done = _files.complete(config, serving(tmp_path, config=ARCHITECTURES["vit"]))
    assert done.pixels == pixels and done.image_size == 16


def test_missing_files_and_unknown_models_are_named(tmp_path: Path) -> None:
    config = VisionTransformerConfig(model="me/mine")
    with pytest.raises(ConfigError, match=r"'bert' is not supported.*known: clip"):
        _files.complete(config, serving(tmp_path, config={"model_type": "bert"}))
    with pytest.raises(ModelError, match=r"no file 'preprocessor_config\.json'"):
        _files.complete(config, serving(tmp_path, config=ARCHITECTURES["vit"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": None}, r"has no 'size'"),
        ({"image_mean": None}, r"has no 'image_mean'"),
        ({"resample": 9}, "no filter has the number 9"),
        ({"size": {"height": 8, "width": 9}}, "is not one edge of a square"),
        ({"do_center_crop": True}, r"has no 'crop_size'"),
        ({"do_resize": False}, "are not resized"),
        ({"do_rescale": False}, "not rescaled"),
    ],
)
def test_processors_that_cannot_be_followed(change: dict[str, Any], message: str) -> None:
    good = {"size": 8, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    with pytest.raises((ModelError, ConfigError), match=message):
        _files.pixel_spec({**good, **change})


def test_image_size_and_pixels_must_agree() -> None:
    with pytest.raises(ConfigError, match=r"image_size is 8, but pixels.size is 16"):
        VisionTransformerConfig(model="x/y", image_size=8, pixels=PixelSpec(size=16))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", [-1, 2])
def test_weights_of_saved_models(kind: str, layer: int, tmp_path: Path) -> None:
    model = library_model(kind, seed=layer + 5)
    model.save_pretrained(tmp_path)
    encoder = made(kind, layer=layer, tokens="all", image_size=16).eval()
    filled = encoder.load_pretrained(tmp_path)
    assert filled == set(encoder.state_dict())
    view = torch.from_numpy(noise(1, 16, 16, 3))
    with torch.no_grad():
        tokens = encoder(view)
    due = expected(model, view.permute(0, 3, 1, 2) / 127.5 - 1, layer=layer, norm=True)
    torch.testing.assert_close(tokens, due, atol=1e-5, rtol=1e-5)
    assert all(parameter.dtype == torch.float32 for parameter in encoder.parameters())


def test_weights_of_a_classifier_and_in_half_precision(tmp_path: Path) -> None:
    table = {key: value for key, value in ARCHITECTURES["vit"].items() if key != "model_type"}
    model = ViTForImageClassification(ViTConfig(**table)).half().eval()
    model.save_pretrained(tmp_path)
    encoder = made("vit").eval()
    encoder.load_pretrained(tmp_path)
    view = torch.from_numpy(noise(1, 16, 16, 3))
    due = expected(model.vit.float(), view.permute(0, 3, 1, 2) / 127.5 - 1, layer=-1, norm=True)
    torch.testing.assert_close(encoder(view), due[:, 1:], atol=1e-5, rtol=1e-5)
    assert encoder.tower.dtype == torch.float32


def test_weights_in_shards(tmp_path: Path) -> None:
    model = library_model("dinov2")
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    encoder = made("dinov2")
    assert encoder.load_pretrained(tmp_path) == set(encoder.state_dict())


def edited(folder: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    library_model("siglip").save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")
    return folder


NAME = "vision_model.encoder.layers.0.mlp.fc1.bias"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop(NAME), r"missing: encoder\.layers\.0\.mlp\.fc1\.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), "unexpected: extra"),
        (lambda t: t.update({NAME: torch.zeros(5)}), "the weights do not fit"),
        (
            lambda t: [t.pop(name) for name in list(t) if ".layers.2." in name],
            "the weights have 2 layers, but the configuration 3",
        ),
    ],
)
def test_weights_that_do_not_fit(
    edit: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        made("siglip").load_pretrained(edited(tmp_path, edit))


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no file 'model\.safetensors'"):
        made("vit").load_pretrained(tmp_path)


def test_the_source_names_safetensors_alone() -> None:
    source = pretrained(VisionTransformerConfig(model="facebook/dinov2-base"))
    assert source.location == "facebook/dinov2-base"
    assert source.files and all(".safetensors" in name for name in source.files)
