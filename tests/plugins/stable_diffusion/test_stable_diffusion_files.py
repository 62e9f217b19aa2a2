"""What is read of a published folder, what is written beside a model, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.plugins.stable_diffusion.tiny import (
    END,
    SPECS,
    VIEW,
    Published,
    architecture,
    local,
    normal,
    publish,
)
from vlv_core.config import configure, to_dict
from vlv_core.errors import ConfigError, ModelError
from vlv_core.specs import Near, Source, resolve
from vlv_plugins.stable_diffusion._complete import complete, read_specials
from vlv_plugins.stable_diffusion._tokenizer import ClipTokenizer
from vlv_plugins.stable_diffusion.config import (
    StableDiffusion3Config,
    StableDiffusionConfig,
    StableDiffusionXlConfig,
    diffusion_pretrained,
    pretrained,
)


@pytest.fixture
def plain(tmp_path: Path) -> Published:
    """A model of version 1, to be spoilt."""
    return publish("stable-diffusion", tmp_path / "model")


def rewrite(file: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    save_file(change(tensors), file)


def test_the_architecture_is_the_published_one(published: Published) -> None:
    found = published.config.architecture
    due = architecture(published.kind)
    assert set(found) - set(due) <= {"force_zeros_for_empty_prompt"}
    for name, table in due.items():
        if isinstance(table, dict):
            assert {key: found[name].get(key) for key in table} == table
        else:
            assert found[name] == table


def test_the_architecture_survives_toml(published: Published) -> None:
    """TOML has no null, and a model folder keeps the config as TOML."""
    table = to_dict(published.config)
    assert "null" not in json.dumps(table)
    assert configure(published.spec.config, table, "decoder") == published.config


def test_a_filled_architecture_is_left_alone() -> None:
    config = StableDiffusionConfig(architecture=architecture("stable-diffusion"))

    def forbidden(source: Source) -> Path:
        raise AssertionError(f"fetched {source}")

    assert complete(config, forbidden) == config
    preset = complete(StableDiffusionConfig(), forbidden)
    assert preset.architecture["text_encoder"]["hidden_size"] == 1024


def test_every_name_is_filled(published: Published) -> None:
    for module in (published.condition, published.diffusion):
        assert module.load_pretrained(published.folder) == set(module.state_dict())


def test_half_precision_files_are_read_as_float32(published: Published, tmp_path: Path) -> None:
    published.pipe.save_pretrained(tmp_path, variant="fp16")
    for file in tmp_path.rglob("*.fp16.safetensors"):
        rewrite(file, lambda tensors: {name: tensor.half() for name, tensor in tensors.items()})
    near = replace(published.near, num_queries=4)
    for reference in (published.spec.build, published.spec.diffusion):
        module = resolve(reference)(published.config, near)
        module.load_pretrained(tmp_path)
        assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_the_wanted_variant_is_read_first(plain: Published) -> None:
    file = plain.folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    other = {name: tensor + 1 for name, tensor in tensors.items()}
    save_file(other, file.with_name("diffusion_pytorch_model.fp16.safetensors"))
    name = "conv_in.weight"
    assert torch.equal(plain.build_diffusion().denoiser.conv_in.weight, tensors[name])
    chosen = plain.build_diffusion(variant="fp16")
    assert torch.equal(chosen.denoiser.conv_in.weight, other[name])


def test_names_of_older_files_are_understood(plain: Published) -> None:
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}

    def age_vae(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        for new, name in old.items():
            tensors = {key.replace(new, name): tensor for key, tensor in tensors.items()}
        return tensors

    def age_text(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        bare = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
        aged = {f"text_model.{name}": tensor for name, tensor in bare.items()}
        return aged | {"text_model.embeddings.position_ids": torch.arange(40)[None]}

    noisy, z = normal(1, 4, 8, 8), normal(1, 5, 32)
    pictures, context = plain.build_diffusion().decode(noisy), plain.build_condition()(z).context
    rewrite(plain.folder / "vae" / "diffusion_pytorch_model.safetensors", age_vae)
    rewrite(plain.folder / "text_encoder" / "model.safetensors", age_text)
    assert torch.equal(plain.build_diffusion().decode(noisy), pictures)
    assert torch.equal(plain.build_condition()(z).context, context)


def test_loading_is_strict(plain: Published) -> None:
    file = plain.folder / "unet" / "diffusion_pytorch_model.safetensors"
    rewrite(file, lambda tensors: {n: t for n, t in tensors.items() if n != "conv_in.bias"})
    with pytest.raises(ModelError, match=r"unet: the weights do not fit; missing: conv_in\.bias"):
        plain.build_diffusion()
    rewrite(file, lambda tensors: tensors | {"conv_in.bias": torch.zeros(3)})
    with pytest.raises(ModelError, match=r"unet: 'conv_in\.bias' is \(3,\) in the file"):
        plain.build_diffusion()
    file.unlink()
    with pytest.raises(ModelError, match=r"has no file 'diffusion_pytorch_model\.safetensors'"):
        plain.build_diffusion()


def test_missing_tokenizer_files_are_named(plain: Published) -> None:
    condition = plain.build_condition()
    (plain.folder / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no file 'tokenizer\.json' or 'vocab\.json'"):
        condition.load_pretrained(plain.folder)
    (plain.folder / "tokenizer" / "vocab.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no file 'merges\.txt'"):
        condition.load_pretrained(plain.folder)


def test_vocabulary_and_merges_make_the_same_tokenizer(plain: Published) -> None:
    captions = ["a RED circle!", "cities are red", "naïve — 東京 !?"]
    due = plain.condition.prompts[0](captions, length=30)
    folder = plain.folder / "tokenizer"
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    made = plain.build_condition().prompts[0](captions, length=30)
    np.testing.assert_array_equal(made[0], due[0])
    assert made[1] == due[1]
    theirs = plain.pipe.tokenizer(captions, padding="max_length", max_length=30)
    assert made[0].tolist() == theirs.input_ids


def test_assets_bring_the_tokenizers_back(published: Published, tmp_path: Path) -> None:
    captions = ["a red circle!", "cities"]
    published.condition.save_assets(tmp_path)
    fresh = resolve(published.spec.build)(published.config, Near(view_size=VIEW))
    first = (each.prompts[0](captions, length=20)[0] for each in (fresh, published.condition))
    assert not np.array_equal(*first)
    fresh.load_assets(tmp_path)
    for mine, due in zip(fresh.prompts, published.condition.prompts, strict=True):
        np.testing.assert_array_equal(mine(captions, length=20)[0], due(captions, length=20)[0])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"tokenizer.json", "tokenizer_2.json"} or len(fresh.tokenizers) == 1
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"has no file 'tokenizer\.json'"):
        fresh.load_assets(tmp_path)


def test_another_models_tokenizer_is_refused(plain: Published) -> None:
    tokenizer = ClipTokenizer({"pad_token": "<|padding|>"})
    assert tokenizer.prompts(["a"], length=4)[0].tolist() == [[256, 97, 256, 256]]
    tokenizer._use(plain.condition.prompts[0].tokenizer, fallback=True)
    with pytest.raises(ModelError, match=r"no token '<\|padding\|>', which is its pad_token"):
        tokenizer._use(plain.condition.prompts[0].tokenizer)


def test_special_tokens_come_from_the_file_that_counts(tmp_path: Path) -> None:
    assert read_specials(tmp_path)["pad_token"] == END
    settings = {"pad_token": END, "eos_token": {"content": "<end>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": "!"}))
    found = read_specials(tmp_path)
    assert (found["pad_token"], found["eos_token"]) == ("!", "<end>")
    settings["added_tokens_decoder"] = {}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert read_specials(tmp_path)["pad_token"] == END


@pytest.mark.parametrize(
    "config", [StableDiffusionConfig(), StableDiffusionXlConfig(), StableDiffusion3Config()]
)
@pytest.mark.parametrize("variant", ["", "fp16"])
def test_only_what_is_needed_is_fetched(config: Any, variant: str) -> None:
    config = replace(config, variant=variant)
    halves = [pretrained(config), diffusion_pretrained(config)]
    middle = f".{variant}" if variant else ""
    wanted = [f"text_encoder/model{middle}.safetensors", "tokenizer/merges.txt"]
    wanted.append(f"{config.denoiser}/diffusion_pytorch_model{middle}-00001-of-00002.safetensors")
    wanted.append(f"vae/diffusion_pytorch_model{middle}.safetensors")
    unwanted = [
        f"text_encoder/model{'' if variant else '.fp16'}.safetensors",
        f"{config.denoiser}/diffusion_pytorch_model.non_ema.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "text_encoder_3/model-00001-of-00002.safetensors",
        "safety_checker/model.safetensors",
        "v1-5-pruned.safetensors",
    ]

    def fetched(name: str) -> bool:
        return any(fnmatch(name, pattern) for half in halves for pattern in half.files)

    assert {half.location for half in halves} == {config.model}
    assert not any(fnmatch(wanted[2], pattern) for pattern in halves[0].files)
    assert all(map(fetched, wanted)) and not any(map(fetched, unwanted))
    assert fetched(f"text_encoder_2/model{middle}.safetensors") is (config.text_encoders == 2)


def test_a_model_of_another_kind_is_refused(published: Published) -> None:
    for name, spec in SPECS.items():
        if name == published.spec.name or spec.config is None:
            continue
        with pytest.raises((ConfigError, ModelError), match=r"made of|has no file 'config\.json'"):
            complete(spec.config(model=str(published.folder)), local)


def test_sizes_that_disagree_are_refused() -> None:
    spec, tables = SPECS["stable-diffusion"], architecture("stable-diffusion")
    build = resolve(spec.diffusion)

    def refused(message: str, size: int = VIEW, width: int = 0, **changed: Any) -> None:
        near = Near(view_size=size, context_dim=width)
        altered = {n: t | changed.get(n, {}) for n, t in tables.items()}
        with pytest.raises(ConfigError, match=message):
            build(StableDiffusionConfig(architecture=altered), near)

    refused(r"view\.size is 15, but .* a multiple of 2", size=15)
    refused(r"unet\.cross_attention_dim is 32, but the context's is 48", width=48)
    refused(r"denoiser\.in_channels is 9, but the VAE's is 4", unet={"in_channels": 9})
    refused(
        r"unet\.addition_embed_type is 'text', but this decoder's is None",
        unet={"addition_embed_type": "text"},
    )
    refused(r"unet: 'Other' is not supported.*known: UNet2D", unet={"_class_name": "Other"})
    refused(r"vae: 'AutoencoderDC' is not supported", vae={"_class_name": "AutoencoderDC"})
    refused("latents_mean and latents_std are not supported", vae={"latents_mean": [0.0] * 4})


def test_foreign_text_encoders_and_wide_contexts_are_refused() -> None:
    spec, tables = SPECS["stable-diffusion-3"], architecture("stable-diffusion-3")
    near = Near(view_size=VIEW, context_dim=100)
    with pytest.raises(ConfigError, match=r"context is 100 wide, but .*joint_attention_dim is 80"):
        resolve(spec.diffusion)(StableDiffusion3Config(architecture=tables), near)
    tables["text_encoder"]["model_type"] = "t5"
    with pytest.raises(ConfigError, match=r"text_encoder: 't5' is not supported; known: clip"):
        resolve(spec.build)(StableDiffusion3Config(architecture=tables), near)
    with pytest.raises(ConfigError, match=r"the architecture has None; .* text_encoder, unet"):
        resolve(SPECS["stable-diffusion"].build)(StableDiffusionConfig(model="x"), near)
