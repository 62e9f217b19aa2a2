"""The bundled decoder's own arithmetic, against the formulas it is named after."""

import numpy as np
import pytest
import torch

from vlv_core import Conditioning
from vlv_core.specs import Near
from vlv_plugins.mini import _condition, _diffusion
from vlv_plugins.mini._latents import latent_means, standardise
from vlv_plugins.mini.config import T2iConfig

CONFIG = T2iConfig(text_width=16, text_heads=2, vae_width=16, width=24, depth=1, heads=2)


@pytest.fixture
def diffusion() -> _diffusion.MiniDiffusion:
    torch.manual_seed(0)
    return _diffusion.build(CONFIG, Near()).eval()


def conditioning(rows: int, *, length: int = 4) -> Conditioning:
    return Conditioning(torch.randn(rows, length, 16))


def test_velocity_leads_from_the_noisy_latent_to_the_clean_one(
    diffusion: _diffusion.MiniDiffusion,
) -> None:
    noisy, t, given = torch.randn(3, 8, 8, 8), torch.tensor([100.0, 500.0, 900.0]), conditioning(3)
    with torch.no_grad():
        velocity = diffusion.predict(noisy, t, given)
        clean = diffusion.dit(noisy, t / 1000, given.context)
    moved = noisy - (t / 1000)[:, None, None, None] * velocity
    torch.testing.assert_close(moved, clean, atol=1e-5, rtol=1e-5)


def test_loss_is_zero_for_a_perfect_denoiser(
    diffusion: _diffusion.MiniDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents, noise = torch.randn(2, 8, 8, 8), torch.randn(2, 8, 8, 8)
    monkeypatch.setattr(diffusion, "predict", lambda noisy, t, given: noise - latents)
    loss = diffusion.loss(latents, conditioning(2), noise=noise, t=torch.tensor([200.0, 800.0]))
    torch.testing.assert_close(loss, torch.zeros(2), atol=1e-9, rtol=0)


def test_scale_and_shift_go_there_and_back(diffusion: _diffusion.MiniDiffusion) -> None:
    diffusion.scale.fill_(0.25)
    diffusion.shift.fill_(3.0)
    moments = torch.randn(2, 16, 8, 8)
    moments[:, 8:] = -30.0
    latents = diffusion.latents(moments, torch.randn(2, 8, 8, 8))
    torch.testing.assert_close(latents, (moments[:, :8] - 3.0) * 0.25, atol=1e-5, rtol=1e-5)
    direct = ((diffusion.vae.decode(moments[:, :8]) + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(diffusion.decode(latents), direct, atol=1e-5, rtol=1e-5)


def test_times_are_logit_normal(diffusion: _diffusion.MiniDiffusion) -> None:
    t = diffusion.timesteps((torch.arange(20000) + 0.5) / 20000) / 1000
    logits = torch.logit(t.double())
    assert abs(float(logits.mean()) - _diffusion.TIME_MEAN) < 0.01
    assert abs(float(logits.std()) - 1.0) < 0.01


def test_standardise_leaves_mean_zero_and_deviation_one(
    diffusion: _diffusion.MiniDiffusion,
) -> None:
    means = (np.random.default_rng(0).normal(2.0, 5.0, (500, 8, 8, 8))).astype(np.float16)
    standardise(diffusion, means)
    scaled = (torch.from_numpy(means.astype(np.float32)) - diffusion.shift) * diffusion.scale
    assert float(scaled.mean().abs()) < 0.01
    assert abs(float(scaled.std()) - 1.0) < 0.01


def test_latents_are_computed_once(
    diffusion: _diffusion.MiniDiffusion, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Grey:
        def samples(self, indices: range) -> list:
            from vlv_core.protocols import Sample

            picture = np.full((64, 64, 3), 128, np.uint8)
            return [Sample(str(index), lambda: picture) for index in indices]

    first = latent_means(diffusion, Grey(), count=5, path=tmp_path / "latents.npy")
    monkeypatch.setattr(diffusion, "moments", None)
    again = latent_means(diffusion, Grey(), count=5, path=tmp_path / "latents.npy")
    np.testing.assert_array_equal(first, again)
    assert first.shape == (5, 8, 8, 8)


def test_padding_repeats_the_end_and_cut_tokens_are_counted() -> None:
    condition = _condition.build(CONFIG, Near())
    ids, cut = condition.tokenize(["a red circle.", "a red circle. " * 40], length=20)
    assert ids.shape == (2, 20)
    assert ids[0, 0] == ids[1, 0] == 1
    assert (ids[:, -1] == 0).all()
    assert cut[0] == 0 and cut[1] > 100
