"""The encoder against transformers' own whole models: forward, layers, tokens, sizes."""

from typing import Any

import pytest
import torch
from torch import nn

from tests.plugins.vision_transformers.tiny_models import (
    ARCHITECTURES,
    BEFORE,
    KINDS,
    expected,
    library_model,
    noise,
    vision_of,
)
from vlv_core import Near, PixelSpec
from vlv_core.errors import ConfigError
from vlv_plugins.vision_transformers._encoder import VisionTransformer, build
from vlv_plugins.vision_transformers.config import VisionTransformerConfig

NEAR = Near(view_size=32)


def made(kind: str, **options: Any) -> VisionTransformer:
    config = VisionTransformerConfig(model="x/y", architecture=ARCHITECTURES[kind], **options)
    return build(config, NEAR)


def same_weights(kind: str, **options: Any) -> tuple[VisionTransformer, Any]:
    """The encoder, and the library's whole model whose weights it got, by plain names."""
    model, encoder = library_model(kind), made(kind, **options).eval()
    theirs = vision_of(model).state_dict()
    encoder.tower.load_state_dict({n: theirs[n] for n in encoder.tower.state_dict()})
    return encoder, model


def test_every_family_is_tested() -> None:
    from vlv_plugins.vision_transformers._families import FAMILIES, TWO_TOWERS

    assert set(KINDS) == {*FAMILIES, *TWO_TOWERS}


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_the_librarys_hidden_states(kind: str) -> None:
    view = torch.from_numpy(noise(2, 16, 16, 3))
    for layer, norm in ((-1, True), (-1, False), (-2, True), (-2, False), (1, False), (3, True)):
        pixels = PixelSpec(size=16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
        encoder, model = same_weights(kind, layer=layer, norm=norm, tokens="all", pixels=pixels)
        mean, std = (torch.tensor(each).view(3, 1, 1) for each in (pixels.mean, pixels.std))
        normalised = (view.permute(0, 3, 1, 2) / 255 - mean) / std
        with torch.no_grad():
            tokens = encoder(view)
        due = expected(model, normalised, layer=layer, norm=norm)
        torch.testing.assert_close(tokens, due, atol=1e-5, rtol=1e-5)
        assert tokens.shape == (2, encoder.num_tokens, encoder.dim)


@pytest.mark.parametrize("kind", KINDS)
def test_which_tokens(kind: str) -> None:
    view, before = torch.from_numpy(noise(1, 16, 16, 3)), BEFORE[kind]
    all_tokens = same_weights(kind, tokens="all", image_size=16)[0](view)
    patch = same_weights(kind, tokens="patch", image_size=16)[0]
    torch.testing.assert_close(patch(view), all_tokens[:, before:])
    assert patch.num_tokens == 16 and all_tokens.shape[1] == before + 16
    if before:
        cls = same_weights(kind, tokens="cls", image_size=16)[0]
        torch.testing.assert_close(cls(view), all_tokens[:, :1])
        assert cls.num_tokens == 1
    else:
        with pytest.raises(ConfigError, match="siglip_vision_model has no class token"):
            made(kind, tokens="cls")


@pytest.mark.parametrize("kind", ["dinov2", "dinov2_with_registers", "dinov3_vit"])
@pytest.mark.parametrize("size", [12, 30])
def test_other_sizes_where_the_model_has_them(kind: str, size: int) -> None:
    encoder, model = same_weights(kind, tokens="all", image_size=size)
    view = torch.from_numpy(noise(1, size, size, 3))
    with torch.no_grad():
        tokens = encoder(view)
    due = expected(model, view.permute(0, 3, 1, 2) / 127.5 - 1, layer=-1, norm=True)
    torch.testing.assert_close(tokens, due, atol=1e-5, rtol=1e-5)
    assert encoder.num_tokens == BEFORE[kind] + (size // 4) ** 2


@pytest.mark.parametrize("kind", ["clip", "siglip", "vit"])
def test_other_sizes_are_refused_elsewhere(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"was made for 16 x 16 pixels, not 32"):
        made(kind, image_size=32)


def test_an_input_smaller_than_a_patch_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 pixels holds no patch of 4"):
        made("dinov2", image_size=3)


def test_later_layers_and_unused_parts_are_not_there() -> None:
    whole, half = made("siglip"), made("siglip", layer=1, norm=False)
    names = [name for name, _ in half.named_parameters()]
    assert len(half.tower.encoder.layers) == 1 < len(whole.tower.encoder.layers)
    assert not [name for name in names if "head" in name or "post_layernorm" in name]
    assert made("dinov2").tower.embeddings.mask_token is None
    assert made("vit").tower.pooler is None


@pytest.mark.parametrize("layer", [0, 4, -4])
def test_layers_that_do_not_exist(layer: int) -> None:
    with pytest.raises(ConfigError, match=rf"encoder.layer is {layer}, but the model has 3 layers"):
        made("vit", layer=layer)


def test_unknown_architectures_list_what_is_known() -> None:
    def build_with(**architecture: Any) -> nn.Module:
        return build(VisionTransformerConfig(model="x/y", architecture=architecture), NEAR)

    known = r"known: clip, siglip, clip_vision_model, .*dinov3_vit, vit"
    with pytest.raises(ConfigError, match=rf"'siglip2' is not supported.*'siglip'.*{known}"):
        build_with(model_type="siglip2")
    with pytest.raises(ConfigError, match=known):
        build_with(hidden_size=4)
    with pytest.raises(ConfigError, match="no table 'vision_config', but two towers"):
        build_with(model_type="clip")
    with pytest.raises(ConfigError, match=r"architecture of 'x/y' is empty"):
        build(VisionTransformerConfig(model="x/y"), NEAR)


def test_random_positions_of_pretraining_are_off() -> None:
    encoder = made("dinov3_vit").train()
    view = torch.from_numpy(noise(1, 16, 16, 3))
    assert torch.equal(encoder(view), encoder(view))
