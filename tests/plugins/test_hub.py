"""What the families share: strict weights, shards, tokenizers."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vlv_core.errors import ModelError
from vlv_plugins._hub import byte_tokenizer, fill, read_tokenizer, read_weights


def test_any_text_survives_the_byte_tokenizer() -> None:
    tokenizer = byte_tokenizer()
    text = "a réd\ncircle 😀"
    assert tokenizer.encode(text).ids == list(text.encode())
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    assert read_tokenizer(tmp_path / "tokenizer.json").encode("a").ids == [97]
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json is no tokenizer"):
        read_tokenizer(tmp_path / "tokenizer.json")
    with pytest.raises(ModelError, match=r"has no file 'other\.json'"):
        read_tokenizer(tmp_path / "other.json")


def test_the_first_stem_that_exists_counts(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "model.fp16.safetensors")
    assert read_weights(tmp_path, "model", "model.fp16")["a"] == 1
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert read_weights(tmp_path, "model", "model.fp16")["a"] == 0


def test_filling_is_strict() -> None:
    layer = nn.Linear(2, 1)
    right = {"weight": torch.ones(1, 2), "bias": torch.ones(1)}
    assert fill(layer, right, where="here") == {"weight", "bias"}
    assert torch.equal(layer.weight, right["weight"])
    with pytest.raises(ModelError, match=r"here: .* missing: bias; unexpected: biass"):
        fill(layer, {"weight": right["weight"], "biass": right["bias"]}, where="here")
    with pytest.raises(ModelError, match=r"here: 'bias' is \(2,\) in the file, but \(1,\)"):
        fill(layer, {**right, "bias": torch.ones(2)}, where="here")
