"""Both namings of Florence-2's weights, and every tensor of each accounted for."""

import json

import pytest
import torch

from tests.plugins.florence2.tiny_florence import original_state, tiny_model
from tests.source import ROOT
from vlv_plugins._florence_names import native_name, only_table, to_native, unused


def test_original_names_become_native_ones() -> None:
    model = tiny_model()
    native = {name.removeprefix("model."): t for name, t in model.state_dict().items()}
    del native["lm_head.weight"]
    mapped = to_native(original_state(model))
    assert set(mapped) == set(native)
    assert all(torch.equal(mapped[name], native[name]) for name in native)


def test_native_names_stay() -> None:
    model = tiny_model()
    mapped = to_native(model.state_dict())
    assert {f"model.{name}" for name in mapped} | {"lm_head.weight"} == set(model.state_dict())


def test_the_projection_is_transposed_even_where_it_is_square() -> None:
    matrix = torch.arange(9.0).reshape(3, 3)
    native = to_native({"image_projection": matrix})
    assert torch.equal(native["multi_modal_projector.image_projection.weight"], matrix.T)


@pytest.mark.parametrize(
    ("original", "native"),
    [
        ("vision_tower.convs.0.proj.bias", "vision_tower.convs.0.conv.bias"),
        ("vision_tower.convs.0.norm.bias", "vision_tower.convs.0.norm.bias"),
        (
            "vision_tower.blocks.2.8.spatial_block.window_attn.fn.qkv.weight",
            "vision_tower.blocks.2.8.spatial_block.window_attn.qkv.weight",
        ),
        (
            "vision_tower.blocks.2.8.channel_block.channel_attn.norm.weight",
            "vision_tower.blocks.2.8.channel_block.norm1.weight",
        ),
        (
            "vision_tower.blocks.2.8.channel_block.ffn.fn.net.fc1.weight",
            "vision_tower.blocks.2.8.channel_block.ffn.fc1.weight",
        ),
        (
            "image_pos_embed.row_embeddings.weight",
            "multi_modal_projector.image_position_embed.row_embeddings.weight",
        ),
        (
            "language_model.model.decoder.layers.11.encoder_attn.k_proj.bias",
            "language_model.decoder.layers.11.encoder_attn.k_proj.bias",
        ),
        ("model.language_model.shared.weight", "language_model.shared.weight"),
    ],
)
def test_a_name(original: str, native: str) -> None:
    assert native_name(original) == native_name(native) == native


@pytest.mark.parametrize(
    "name",
    ["lm_head.weight", "language_model.lm_head.weight", "language_model.final_logits_bias",
     "vision_tower.norms.weight", "vision_tower.head.bias"],
)  # fmt: skip
def test_what_is_unused_has_its_reason(name: str) -> None:
    assert unused(native_name(name))
    assert unused("language_model.shared.weight") is None


def test_a_shared_table_stored_as_the_output_layer_is_found() -> None:
    table = torch.randn(4, 3)
    assert torch.equal(to_native({"lm_head.weight": table})["language_model.shared.weight"], table)


@pytest.mark.parametrize("table", ["shared", "encoder.embed_tokens", "decoder.embed_tokens"])
def test_the_output_layer_stands_for_a_table_only_where_there_is_none(table: str) -> None:
    output = "language_model.lm_head.weight"
    assert only_table([output, "image_projection"]) == output
    assert only_table([output, f"language_model.model.{table}.weight"]) is None
    assert only_table(["image_projection"]) is None


def test_an_output_layer_beside_the_shared_table_is_left_out() -> None:
    table = torch.randn(4, 3)
    tensors = {"lm_head.weight": table + 1, "model.language_model.shared.weight": table}
    assert torch.equal(to_native(tensors)["language_model.shared.weight"], table)


def test_the_large_models_files_are_the_presets_source() -> None:
    published = ROOT.parent / "shared/data/florence-2-large/config.json"
    if not published.is_file():
        pytest.skip("the published Florence-2-large configuration is not on this machine")
    from vlv_plugins._hub import preset
    from vlv_plugins.florence2._architecture import trimmed

    carried = preset("vlv_plugins.florence2", "microsoft/Florence-2-large")
    assert carried is not None
    assert trimmed(carried) == trimmed(json.loads(published.read_text()))
