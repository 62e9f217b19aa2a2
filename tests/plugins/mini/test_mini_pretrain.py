"""Pretraining end to end at a tiny size, killed in between, and what it leaves."""

from pathlib import Path

import pytest
import torch

from vlv_core.config import convert
from vlv_core.model_folder import load_part, read_manifest
from vlv_core.plugins import load_plugins
from vlv_core.specs import Near
from vlv_plugins.mini import _condition, _diffusion
from vlv_plugins.mini.pretrain import PretrainRecipe, pretrain

TINY = {
    "text_width": 16, "text_heads": 2, "vae_width": 16, "latent_channels": 4,
    "width": 24, "depth": 1, "heads": 2,
}  # fmt: skip


def recipe(*, steps: int) -> PretrainRecipe:
    data = {
        "seed": 3,
        "latents": 12,
        "data": {"world": "S", "count": 1000},
        "decoder": TINY,
        "vae": {"steps": 2, "batch": 4, "lr": 1e-3, "log_every": 1},
        "t2i": {"steps": steps, "batch": 4, "lr": 1e-3, "log_every": 1, "optimizer": "muon"},
    }
    return convert(PretrainRecipe, data, "test")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pretrained")
    pretrain(recipe(steps=3), out=out, resume=False)
    return out


def test_both_halves_load_from_the_folder(trained: Path) -> None:
    manifest = read_manifest(trained / "decoder")
    config = recipe(steps=3).decoder
    for name, build in (("condition", _condition.build), ("diffusion", _diffusion.build)):
        part = build(config, Near())
        load_part(part, trained / "decoder", name, manifest.entry(name), plugins=load_plugins())
    assert part.scale.shape == (4, 1, 1)
    assert not torch.equal(part.scale, torch.ones(4, 1, 1))


def test_a_finished_run_resumed_gives_the_same_weights(trained: Path) -> None:
    before = (trained / "decoder" / "diffusion.safetensors").read_bytes()
    (trained / "decoder" / "model.toml").unlink()
    pretrain(recipe(steps=3), out=trained, resume=True)
    assert (trained / "decoder" / "diffusion.safetensors").read_bytes() == before


def test_the_vae_stands_still_while_the_denoiser_learns(trained: Path) -> None:
    from safetensors.torch import load_file

    vae = load_file(trained / "vae" / "checkpoints" / "step-00000002" / "weights.safetensors")
    whole = load_file(trained / "decoder" / "diffusion.safetensors")
    for name, tensor in vae.items():
        assert torch.equal(whole[f"vae.{name}"], tensor), name
