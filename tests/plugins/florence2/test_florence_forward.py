"""Both halves equal transformers' Florence2ForConditionalGeneration, with weights read from files
of either naming."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Florence2ForConditionalGeneration

from tests.plugins.florence2.tiny_florence import (
    ARCHITECTURE,
    PROMPT_IDS,
    SIZE,
    TOKENS,
    tiny_model,
    write_native,
    write_original,
)
from vlv_core.errors import ConfigError, ModelError
from vlv_core.specs import Near, PixelSpec
from vlv_plugins.florence2._bottleneck import Florence2Bottleneck
from vlv_plugins.florence2._bottleneck import build as build_bottleneck
from vlv_plugins.florence2._encoder import Florence2Encoder
from vlv_plugins.florence2._encoder import build as build_encoder
from vlv_plugins.florence2.config import BottleneckConfig, EncoderConfig

NEAR = Near(view_size=SIZE, num_tokens=TOKENS, token_dim=24, embedding_dim=16, max_queries=48)
WRITERS = pytest.mark.parametrize("write", [write_native, write_original])
Write = Callable[[Florence2ForConditionalGeneration, Path], Path]


def encoder(**changes: Any) -> Florence2Encoder:
    options: dict[str, Any] = {"architecture": ARCHITECTURE, "pixels": PixelSpec(size=SIZE)}
    return build_encoder(EncoderConfig(**(options | changes)), Near(view_size=SIZE)).eval()


def bottleneck(near: Near = NEAR, **changes: Any) -> Florence2Bottleneck:
    options: dict[str, Any] = {"architecture": ARCHITECTURE, "prompt_ids": PROMPT_IDS}
    options |= {"num_queries": 6} | changes
    return build_bottleneck(BottleneckConfig(**options), near).eval()


def views(count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, SIZE, SIZE, 3), generator=generator, dtype=torch.uint8)


@WRITERS
def test_tokens_are_the_librarys_image_features(write: Write, tmp_path: Path) -> None:
    model, part = tiny_model(), encoder()
    filled = part.load_pretrained(write(model, tmp_path))
    assert filled == set(part.state_dict())
    with torch.no_grad():
        due = model.get_image_features(part.normalise(views())).pooler_output
        tokens = part(views())
    assert tokens.shape == (2, TOKENS, 24)
    torch.testing.assert_close(tokens, due, atol=1e-5, rtol=1e-5)


@WRITERS
@pytest.mark.parametrize("scaled", [False, True])
def test_words_as_queries_give_the_librarys_scores(
    write: Write, scaled: bool, tmp_path: Path
) -> None:
    """The library's whole forward pass, from the picture on, beside encoder and bottleneck."""
    model = tiny_model(scale_embedding=scaled)
    folder = write(model, tmp_path)
    seeing, part = encoder(), bottleneck(architecture=scaled_text(scaled))
    seeing.load_pretrained(folder)
    filled = part.load_pretrained(folder)
    assert filled == {name for name in part.state_dict() if name.startswith("language_model.")}
    words = torch.tensor([[2, 0, 33, 8, 21, 40]])
    image = [model.config.image_token_id] * TOKENS
    with torch.no_grad():
        due = model(
            input_ids=torch.tensor([[*image, *PROMPT_IDS]] * 2),
            attention_mask=torch.ones(2, TOKENS + len(PROMPT_IDS), dtype=torch.int64),
            pixel_values=seeing.normalise(views()),
            decoder_input_ids=words.expand(2, -1),
        ).logits
        part.queries.copy_(model.get_input_embeddings()(words)[0])
        scores = model.lm_head(part.read(seeing(views())))
    torch.testing.assert_close(scores, due, atol=1e-5, rtol=1e-5)


def test_words_as_queries_write_what_the_library_generates(tmp_path: Path) -> None:
    """Greedy, one word after another, by the bottleneck alone: `generate` finds the same."""
    model: Any = tiny_model(seed=4)
    folder = write_original(model, tmp_path)
    seeing = encoder()
    seeing.load_pretrained(folder)
    image = [model.config.image_token_id] * TOKENS
    due = model.generate(
        input_ids=torch.tensor([[*image, *PROMPT_IDS]]),
        attention_mask=torch.ones(1, TOKENS + len(PROMPT_IDS), dtype=torch.int64),
        pixel_values=seeing.normalise(views(1)),
        decoder_input_ids=torch.tensor([[2]]),
        max_new_tokens=6,
        min_new_tokens=6,
        eos_token_id=None,
        forced_eos_token_id=None,
        do_sample=False,
        num_beams=1,
    )[0].tolist()
    words = [2]
    with torch.no_grad():
        tokens = seeing(views(1))
        for _ in range(6):
            part = bottleneck(num_queries=len(words))
            part.load_pretrained(folder)
            part.queries.copy_(part.language_model.shared(torch.tensor(words)))
            words.append(int(model.lm_head(part.read(tokens))[0, -1].argmax()))
    assert words == due


def test_z_is_phi_of_what_was_read() -> None:
    part = bottleneck(hidden=20)
    tokens = torch.randn(3, TOKENS, 24)
    first, last = part.phi[0], part.phi[2]
    assert (first.out_features, last.out_features) == (20, 16)
    with torch.no_grad():
        due = last(torch.nn.functional.gelu(first(part.read(tokens))))
        torch.testing.assert_close(part(tokens), due)


@pytest.mark.parametrize("count", [1, 5, 48])
def test_any_number_of_queries(count: int) -> None:
    """Fewer queries give the same beginning: the decoder is causal."""
    many, few = bottleneck(num_queries=48), bottleneck(num_queries=count)
    few.load_state_dict(many.state_dict() | {"queries": many.queries[:count]})
    tokens = torch.randn(1, TOKENS, 24)
    with torch.no_grad():
        torch.testing.assert_close(few(tokens), many(tokens)[:, :count], atol=1e-5, rtol=1e-5)


def test_queries_are_drawn_from_the_normal_distribution() -> None:
    torch.manual_seed(0)
    drawn = bottleneck(num_queries=48).queries
    assert drawn.shape == (48, 24)
    assert abs(drawn.mean()) < 0.1 and abs(drawn.std() - 1) < 0.1


def test_the_word_table_is_one_tensor() -> None:
    language = bottleneck().language_model
    assert language.encoder.embed_tokens.weight is language.shared.weight
    assert language.decoder.embed_tokens.weight is language.shared.weight


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    folder = write_native(tiny_model(), tmp_path)
    wider = ARCHITECTURE["text_config"] | {"encoder_ffn_dim": 44}
    with pytest.raises(ModelError, match=r"florence2 bottleneck: '.*fc1.*' is \(40,.* but \(44,"):
        bottleneck(architecture={"text_config": wider}).load_pretrained(folder)
    deeper = ARCHITECTURE["vision_config"] | {"depths": [1, 1, 3, 1]}
    with pytest.raises(ModelError, match=r"florence2 encoder: .*missing: vision_tower.blocks.2.2"):
        encoder(architecture={"vision_config": deeper}).load_pretrained(folder)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no file 'model\.safetensors'"):
        encoder().load_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("changes", "near", "reason"),
    [
        ({}, {"token_dim": 32}, "tokens are 32 wide, but this Florence-2 reads 24"),
        ({"num_queries": 49}, {}, "num_queries is 49; this model has 48 positions"),
        ({"num_queries": 0}, {}, "num_queries is 0"),
        ({}, {"num_tokens": 44}, "44 tokens and 5 of the prompt exceed the 48 positions"),
        ({"prompt_ids": (0, 61, 2)}, {}, "prompt_ids has 61, but vocab_size is 61"),
        ({"architecture": {}}, {}, "architecture has no 'text_config'; it has nothing"),
    ],
)
def test_sizes_that_cannot_be(changes: dict[str, Any], near: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        bottleneck(replace(NEAR, **near), **changes)


@pytest.mark.parametrize("size", [224, 4000])
def test_pictures_that_do_not_fit_the_position_table(size: int) -> None:
    with pytest.raises(ConfigError, match=rf"pixels.size {size} gives .* positions for 1 to 6"):
        encoder(pixels=PixelSpec(size=size))


def scaled_text(scaled: bool) -> dict[str, Any]:
    return {"text_config": ARCHITECTURE["text_config"] | {"scale_embedding": scaled}}
