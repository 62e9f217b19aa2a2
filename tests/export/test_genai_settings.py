"""Settings of packages: placeholders, configurations, the cut of graphs, README."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from PIL import Image

from tests.export import genai_packages
from tests.export.conftest import Tiny
from vlv_core.errors import ModelError, UsageError
from vlv_core.preprocess import to_pixels, to_view
from vlv_core.specs import PixelSpec, View
from vlv_export.genai import _graphs
from vlv_export.genai.config import (
    Decoder,
    genai_config,
    processor_config,
    tokenizer_config,
)
from vlv_export.genai.placeholders import END, PAD, PROMPT, START, Placeholders
from vlv_export.genai.readme import readme

SIZES = Decoder(dim=16, layers=2, heads=4, cache_heads=2, head_width=8, max_length=40)
TOKENIZER = {
    "model": {"vocab": {"a": 5}},
    "added_tokens": [{"id": 0, "content": "<end>"}, {"id": 7, "content": PAD}],
}


@pytest.fixture(scope="module")
def package(tiny: Tiny, artefact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package whose pictures' processor tests replace."""
    folder = tmp_path_factory.mktemp("settings") / "package"
    genai_packages.make(tiny[1], artefact, folder)
    return folder


def test_placeholders_lie_beyond_the_vocabulary() -> None:
    placeholders = Placeholders(vocab_size=100, count=16)
    assert list(placeholders.tokens.values()) == [100, 101, 102]
    assert placeholders.pad == placeholders.tokens[PAD] == 100
    assert placeholders.total == 103


@pytest.mark.parametrize("count", [1, 2, 3, 77])
def test_longest_matches_leave_as_many_tokens_as_rows(count: int) -> None:
    tokens = Placeholders(vocab_size=9, count=count).tokens
    text, found = START + PAD * count + END, 0
    while text:
        text = text.removeprefix(max(filter(text.startswith, tokens), key=len))
        found += 1
    assert found == count


@pytest.mark.parametrize("count", [1, 2, 77])
def test_the_wheel_s_tokenizer_matches_so(count: int, tmp_path: Path) -> None:
    genai = pytest.importorskip("onnxruntime_genai", reason="the wheel is not installed")
    from vlv_plugins import mini

    text = Path(mini.__file__).with_name("tokenizer.json").read_text(encoding="utf-8")
    placeholders = Placeholders(vocab_size=512, count=count)
    config = genai_config(SIZES, placeholders, eos=[0], processor=False)
    (tmp_path / "tokenizer.json").write_text(placeholders.added_to(text), encoding="utf-8")
    for name, data in (("genai", config), ("tokenizer", tokenizer_config(text, eos=[0]))):
        (tmp_path / f"{name}_config.json").write_text(json.dumps(data))
    tokenizer = genai.Tokenizer(genai.Config(str(tmp_path)))
    ids = tokenizer.encode(START + PAD * count + END)
    assert len(ids) == count
    assert set(ids.tolist()) == set(placeholders.tokens.values()) - (
        {placeholders.pad} if count == 2 else set()
    )
    assert tokenizer.decode(tokenizer.encode("a large red circle.")) == "a large red circle."


def test_a_model_s_own_tokens_of_these_names_give_way() -> None:
    added = json.loads(Placeholders(100, 4).added_to(json.dumps(TOKENIZER)))["added_tokens"]
    assert [each["id"] for each in added] == [0, 100, 101, 102]
    assert all(each["special"] for each in added[1:])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"added_tokens": [1]}'])
def test_what_is_no_tokenizer_is_told(text: str) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json is not what `tokenizers` writes"):
        Placeholders(100, 4).added_to(text)


def test_the_configuration_s_fields() -> None:
    config = genai_config(SIZES, Placeholders(100, 4), eos=[7, 9], processor=True)
    model, decoder = config["model"], config["model"]["decoder"]
    assert model["type"] == "videochat_flash_qwen"
    assert (model["vocab_size"], model["context_length"]) == (103, 40)
    assert (model["eos_token_id"], model["pad_token_id"]) == ([7, 9], 7)
    assert model["vision"]["num_visual_tokens"] == 4
    assert model["vision"]["config_filename"] == "processor_config.json"
    assert (decoder["num_attention_heads"], decoder["num_key_value_heads"]) == (4, 2)
    assert (decoder["head_size"], decoder["hidden_size"]) == (8, 16)
    assert config["search"]["past_present_share_buffer"]
    assert not config["search"]["do_sample"]


def test_without_a_processor_none_is_named() -> None:
    config = genai_config(SIZES, Placeholders(100, 4), eos=[7], processor=False)
    assert "config_filename" not in config["model"]["vision"]


def test_the_end_of_text_is_named_in_the_tokenizer_s_words() -> None:
    config = tokenizer_config(json.dumps(TOKENIZER), eos=[0])
    assert config["eos_token"] == config["pad_token"] == "<end>"
    assert config["tokenizer_class"] == "GPT2Tokenizer"
    sentencepiece = {**TOKENIZER, "model": {"vocab": {"a": 5}, "byte_fallback": True}}
    assert tokenizer_config(json.dumps(sentencepiece), eos=[5])["tokenizer_class"] == (
        "LlamaTokenizer"
    )


@pytest.mark.parametrize(
    ("view", "pixels", "kinds"),
    [
        (View(64), PixelSpec(64), ["Resize"]),
        (View(64, fit="squash"), PixelSpec(64), ["Resize"]),
        (View(64), PixelSpec(32), ["Resize", "Resize"]),
        (
            View(64, fit="squash"),
            PixelSpec(32, fit="crop", edge=40),
            ["Resize", "Resize", "CenterCrop"],
        ),
    ],
)
def test_pictures_are_fitted_in_the_model_s_steps(
    view: View, pixels: PixelSpec, kinds: list[str]
) -> None:
    config = processor_config(view, pixels)
    assert config is not None
    steps = [each["operation"]["type"] for each in config["processor"]["transforms"]]
    assert steps == ["DecodeImage", *kinds, "Rescale"]


@pytest.mark.parametrize("view", [View(64, fit="pad"), View(64, resample="area")])
def test_what_genai_cannot_fit_has_no_processor(view: View) -> None:
    assert processor_config(view, PixelSpec(64)) is None
    text = readme("x", placeholders=Placeholders(9, 4), size=64, fit=None)
    assert "given pixels" in text
    assert PROMPT not in text


@pytest.mark.parametrize(
    ("view", "pixels"),
    [
        (View(48), PixelSpec(48)),
        (View(48, resample="bicubic"), PixelSpec(48)),
        (View(48, fit="squash", resample="lanczos"), PixelSpec(32)),
        (View(48), PixelSpec(32, fit="crop", edge=40)),
    ],
)
def test_the_wheel_s_pixels_are_pillow_s(view: View, pixels: PixelSpec, package: Path) -> None:
    """Square PNG files to the bit."""
    found = _processed(view, pixels, package, size=(100, 100))
    assert np.array_equal(*found)


def test_pictures_that_are_not_square_are_squashed_and_the_readme_says_so(package: Path) -> None:
    cropped = _processed(View(48), PixelSpec(48), package, size=(144, 96))
    squashed = _processed(View(48, fit="squash"), PixelSpec(48), package, size=(144, 96))
    assert np.array_equal(*squashed)
    assert np.array_equal(cropped[0], squashed[1])
    texts = [
        readme("x", placeholders=Placeholders(9, 4), size=48, fit=fit) for fit in ("crop", "squash")
    ]
    assert ["cut it out first" in text for text in texts] == [True, False]


def test_heads_with_caches_of_two_sizes_are_refused() -> None:
    layers = [_layer(heads, index) for index, heads in enumerate((2, 4))]
    graph = ir.Graph([], [], nodes=layers, opset_imports={"": 20, "vlv": 1})
    with pytest.raises(UsageError, match="keep caches of 2 sizes"):
        _graphs.sizes(ir.Model(graph, ir_version=10), max_length=8)


def test_heads_that_do_not_append_words_are_refused(tiny: Tiny) -> None:
    model = ir.load(tiny[1]["head"])
    joined = _joined(model)
    joined.replace_input_with(0, joined.inputs[1])
    with pytest.raises(UsageError, match="does not put its words right after its prefix"):
        _graphs.decoder(model, Placeholders(512, 4))


def test_heads_that_read_their_prefix_twice_are_refused(tiny: Tiny) -> None:
    model = ir.load(tiny[1]["head"])
    prefix = next(each for each in model.graph.inputs if each.name == "prefix")
    logits = next(each for each in model.graph.outputs if each.name == "logits")
    mean = ir.node("ReduceMax", [prefix], {"keepdims": 0})
    added = ir.node("Add", [logits, mean.outputs[0]])
    for each in (mean, added):
        model.graph.append(each)
    added.outputs[0].shape, added.outputs[0].type = logits.shape, logits.type
    logits.name, added.outputs[0].name = "before", "logits"
    model.graph.outputs[list(model.graph.outputs).index(logits)] = added.outputs[0]
    with pytest.raises(UsageError, match="reads its prefix in two places"):
        _graphs.decoder(model, Placeholders(512, 4))


def test_words_that_need_their_position_are_refused(tiny: Tiny) -> None:
    model = ir.load(tiny[1]["head"])
    joined = _joined(model)
    words = joined.inputs[1]
    assert words is not None
    position = next(each for each in model.graph.inputs if each.name == "position")
    shift = ir.node("Cast", [position], {"to": 1})
    moved = ir.node("Add", [words, shift.outputs[0]])
    joined.replace_input_with(1, moved.outputs[0])
    model.graph.insert_before(joined, [shift, moved])
    with pytest.raises(UsageError, match="needs its position elsewhere"):
        _graphs.embedding(model, Placeholders(512, 4))


def _joined(model: ir.Model) -> ir.Node:
    """Where the prefix and words come together."""
    prefix = model.graph.inputs[0]
    assert prefix.name == "prefix"
    return next(node for node, _ in prefix.uses() if node.op_type == "Concat")


def _processed(
    view: View, pixels: PixelSpec, folder: Path, *, size: tuple[int, int]
) -> tuple[Any, Any]:
    """A noisy picture (width, height) by the wheel's processor, and by ours."""
    genai = pytest.importorskip("onnxruntime_genai", reason="the wheel is not installed")
    width, height = size
    noise = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(noise).save(folder / "x.png")
    config = processor_config(view, pixels)
    (folder / "processor_config.json").write_text(json.dumps(config), encoding="utf-8")
    processor = genai.Model(str(folder)).create_multimodal_processor()
    tensors = processor(PROMPT, images=genai.Images.open(str(folder / "x.png")))
    theirs = tensors["pixel_values"].as_numpy()[0, 0].transpose(1, 2, 0)
    return theirs, to_pixels(to_view(noise, view), pixels)


def _layer(heads: int, index: int) -> ir.Node:
    shape = ir.Shape([1, heads, 4, 8])
    values = [ir.Value(name=f"{index}.{each}", shape=shape) for each in range(6)]
    return ir.node("CachedAttention", values, domain="vlv", num_outputs=3)
