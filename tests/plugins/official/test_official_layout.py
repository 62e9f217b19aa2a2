"""Keys sorted into pieces by their names alone."""

import pytest
import torch

from vlv_core.errors import ModelError
from vlv_plugins.official._layout import layers, sort

PHI = {"language_proj.0.weight": (4, 3), "language_proj.0.bias": (4,),
       "language_proj.2.weight": (5, 4), "language_proj.2.bias": (5,)}  # fmt: skip
BODY = {
    "query_embed": (1, 7, 3),
    "model.image_projection": (6, 3),
    "model.vision_tower.convs.0.proj.weight": (6, 3, 7, 7),
    "model.language_model.model.shared.weight": (9, 3),
    "model.language_model.lm_head.weight": (9, 3),
    "text_encoder.text_model.embeddings.position_ids": (1, 7),
    "text_encoder.text_model.final_layer_norm.bias": (5,),
    "unet.conv_in.bias": (2,),
    "vae.quant_conv.bias": (2,),
    **PHI,
}
REST = {
    "mlp.layers.0.weight": (8, 5),
    "mlp.layers.2.weight": (8, 8),
    "qwen2_model.model.embed_tokens.weight": (20, 8),
    "qwen2_model.model.layers.0.mlp.down_proj.weight": (8, 8),
}


def state(
    *, body: str = "VLV_model.", front: str = "", rest: bool = True
) -> dict[str, torch.Tensor]:
    shapes = {f"{front}{body}{name}": shape for name, shape in BODY.items()}
    shapes |= {f"{front}{name}": shape for name, shape in REST.items()} if rest else {}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("front", ["", "net.", "a.b."])
def test_stage_2(front: str) -> None:
    layout = sort(state(front=front))
    assert layout.stage == 2
    assert set(layout.piece("llm")) == {
        "model.embed_tokens.weight",
        "model.layers.0.mlp.down_proj.weight",
    }
    assert set(layout.piece("connector")) == {"layers.0.weight", "layers.2.weight"}
    assert set(layout.piece("vision")) == {
        "vision_tower.convs.0.conv.weight",
        "multi_modal_projector.image_projection.weight",
    }
    assert set(layout.piece("language")) == {"language_model.shared.weight"}
    assert set(layout.piece("text_encoder")) == {"text_model.final_layer_norm.bias"}
    assert len(layout.used) + len(layout.unused) == len(state())


def test_stage_1() -> None:
    layout = sort(state(body="", rest=False))
    assert layout.stage == 1
    assert not layout.piece("llm") and not layout.piece("connector")
    assert set(layout.piece("unet")) == {"conv_in.bias"}


def test_another_name_of_the_language_model() -> None:
    tensors = {n.replace("qwen2_model", "llm"): t for n, t in state().items()}
    assert len(sort(tensors).piece("llm")) == 2


def test_tensors_stand_as_the_library_has_them() -> None:
    tensors = state()
    layout = sort(tensors)
    projection = layout.piece("vision")["multi_modal_projector.image_projection.weight"]
    assert torch.equal(projection, tensors["VLV_model.model.image_projection"].T)
    queries = layout.piece("queries")["queries"]
    assert torch.equal(queries, tensors["VLV_model.query_embed"][0])


def test_unused_keys_have_reasons() -> None:
    unused = sort(state() | {"other": torch.ones(1)}).unused
    assert unused["VLV_model.text_encoder.text_model.embeddings.position_ids"].startswith(
        "the numbers of positions"
    )
    assert "output layer" in unused["VLV_model.model.language_model.lm_head.weight"]
    assert unused["other"] == "it belongs to no part of the official layout"


def test_what_only_looks_like_a_weight_is_unused() -> None:
    names = {
        "VLV_model.query_embed_ema": "it belongs to no part of the official layout",
        "qwen2_model.model.rotary_emb.inv_freq": "the numbers of positions, which are no weights",
    }
    tensors = state()
    layout = sort(tensors | {name: torch.ones(1, 7, 3) for name in names})
    assert {name: layout.unused[name] for name in names} == names
    queries = layout.piece("queries")["queries"]
    assert torch.equal(queries, tensors["VLV_model.query_embed"][0])


def test_the_output_layer_is_the_table_of_words_where_files_hold_it_once() -> None:
    tensors = state()
    del tensors["VLV_model.model.language_model.model.shared.weight"]
    output = "VLV_model.model.language_model.lm_head.weight"
    layout = sort(tensors)
    assert layout.used[output] == ("language", "language_model.shared.weight")
    assert layout.piece("language")["language_model.shared.weight"] is tensors[output]


def test_a_dropped_piece_is_unused() -> None:
    layout = sort(state())
    layout.drop("unet", "not wanted")
    assert not layout.piece("unet")
    assert layout.unused["VLV_model.unet.conv_in.bias"] == "not wanted"
    assert "VLV_model.unet.conv_in.bias" not in layout.used


def test_layers_are_in_numerical_order() -> None:
    tensors = {f"phi.{i}.weight": torch.full((1, 1), float(i)) for i in (10, 2, 0)}
    assert [float(layer) for layer in layers(tensors)] == [0, 2, 10]


def test_other_checkpoints_are_refused() -> None:
    with pytest.raises(ModelError, match="has 0 'query_embed', 1 is due; its names start with enc"):
        sort({"encoder.weight": torch.ones(2)})
    with pytest.raises(ModelError, match="has 2 'query_embed'"):
        sort(state() | {"other.query_embed": torch.ones(1, 2, 3)})
    with pytest.raises(ModelError, match=r"'query_embed' is \(3,\) in the checkpoint"):
        sort(state() | {"VLV_model.query_embed": torch.ones(3)})


def test_an_mlp_that_is_missing() -> None:
    tensors = {n: t for n, t in state().items() if "language_proj" not in n}
    with pytest.raises(ModelError, match="the checkpoint has no phi"):
        sort(tensors)
    tensors = {n: t for n, t in state().items() if not n.startswith("mlp.")}
    with pytest.raises(ModelError, match="the checkpoint has no connector"):
        sort(tensors)
