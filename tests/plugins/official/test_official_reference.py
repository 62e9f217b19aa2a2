"""The official release's own numbers, from the picture files on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from numpy.typing import NDArray
from torch import Tensor

from tests.plugins.official.plugins import plugins
from tests.plugins.official.reference import FOLDER, WHY, bring, expected, pictures, unpack
from vlv_core import Conditioning
from vlv_core.captioner import Captioner
from vlv_core.errors import ModelError
from vlv_core.generation import GenerationOptions
from vlv_core.model import VLV
from vlv_core.model_folder import load_model, open_model, read_manifest
from vlv_core.preprocess import to_pixels, views
from vlv_core.specs import OpenOptions, View
from vlv_core.torch_backend import TorchBackend

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=WHY)

CLOSE = 1e-4
LENGTH = 24
"""new tokens"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def folder(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported") / "model"
    result = bring(unpacked / "stage2.pt", out, unpacked)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def captioner(folder: Path) -> Captioner:
    return open_model(folder, OpenOptions(parts="all", device="cpu", plugins=plugins()))


@pytest.fixture(scope="module")
def model(captioner: Captioner) -> VLV:
    assert isinstance(captioner.backend, TorchBackend)
    return captioner.backend.model


@pytest.fixture(scope="module")
def due() -> Mapping[str, NDArray[Any]]:
    return expected()


@pytest.fixture(scope="module")
def seen(model: VLV) -> Mapping[str, Tensor]:
    """What the imported model makes of the pictures, by the names of `expected.npz`."""
    view = views(pictures(), model.view)
    small = torch.from_numpy(to_pixels(view, model.encoder.pixels))
    with torch.no_grad():
        tokens = model.encoder(small)
        out = model.read(tokens)
        return {
            "view": torch.from_numpy(view).permute(0, 3, 1, 2),
            "pixels": model.encoder.normalise(small),
            "decoder_hidden": model.bottleneck.read(tokens),
            "z": out.z,
            "context": out.context,
            "prefix": out.prefix,
            "vae_mean": model.diffusion.moments(torch.from_numpy(view)).chunk(2, dim=1)[0],
        }


def close(found: Tensor, due: NDArray[Any]) -> None:
    np.testing.assert_allclose(found.double().numpy(), due.astype(np.float64), atol=CLOSE, rtol=0)


def test_the_view_to_the_last_bit(seen: Mapping[str, Tensor], due: Mapping[str, Any]) -> None:
    assert np.array_equal(seen["view"].numpy(), due["view"])


@pytest.mark.parametrize("name", ["pixels", "decoder_hidden", "z", "context", "prefix", "vae_mean"])
def test_numbers(name: str, seen: Mapping[str, Tensor], due: Mapping[str, Any]) -> None:
    close(seen[name], due[name])


def test_the_prompt(model: VLV, due: Mapping[str, Any]) -> None:
    assert (model.bottleneck.prompt_ids.numpy() == due["prompt_ids"]).all()


def test_scores_of_the_first_word(
    model: VLV, seen: Mapping[str, Tensor], due: Mapping[str, Any]
) -> None:
    vocabulary = due["last_logits"].shape[1]
    top = model.head.start(seen["prefix"], 80).prefill(vocabulary)
    scores = torch.empty(top.ids.shape).scatter(
        1, torch.from_numpy(top.ids), torch.from_numpy(top.log_probs)
    )
    close(scores, torch.from_numpy(due["last_logits"]).log_softmax(dim=1).numpy())


@pytest.mark.parametrize(("name", "beams"), [("greedy", 1), ("beam4", 4)])
def test_words(name: str, beams: int, captioner: Captioner, due: Mapping[str, Any]) -> None:
    options = GenerationOptions(
        max_new_tokens=LENGTH, beams=beams, early_stopping=beams > 1, stop_on_repetition=False
    )
    captions = captioner.caption(pictures(), options=options)
    (eos,) = set(captioner.backend.eos)
    for caption, row in zip(captions, due[name].tolist(), strict=True):
        written = row[: row.index(eos)] if eos in row else row
        assert list(caption.tokens) == written
        assert (caption.finish_reason == "eos") == (eos in row)


def test_the_denoisers_answer_and_loss(model: VLV, due: Mapping[str, Any]) -> None:
    latents, noise, t, context = (
        torch.from_numpy(due[name]) for name in ("latents", "noise", "timesteps", "context")
    )
    scheduler = DDPMScheduler.from_pretrained(FOLDER / "sd" / "scheduler")
    noisy = scheduler.add_noise(latents, noise, t)
    with torch.no_grad():
        close(model.diffusion.predict(noisy, t, Conditioning(context)), due["predicted_noise"])
        loss = model.diffusion.loss(latents, Conditioning(context), noise=noise, t=t)
    assert float(loss.double().mean()) == pytest.approx(float(due["loss"]), abs=CLOSE)


def test_every_key_is_accounted_for(folder: Path) -> None:
    report = json.loads((folder / "import.json").read_text())
    assert (report["stage"], report["wrapper"], report["missing"]) == (2, "model_state_dict", {})
    assert len(report["used"]) == 683
    assert set(report["unused"]) == {
        "VLV_model.model.language_model.lm_head.weight",
        "VLV_model.model.language_model.final_logits_bias",
        "step",
    }
    assert report["sizes"]["K"] == 77 and report["sizes"]["Dl"] == 64


def test_stage_1_is_the_same_model_without_words(
    unpacked: Path, tmp_path: Path, folder: Path
) -> None:
    """Part for part the same file, by its sha256."""
    result = bring(unpacked / "stage1.pt", tmp_path / "model", unpacked)
    assert result.exit_code == 0, result.output
    assert "captions nothing" in result.output
    with pytest.raises(ModelError, match=r"has no part 'connector'; it has encoder, bottleneck"):
        load_model(tmp_path / "model", plugins=plugins())
    one, other = read_manifest(tmp_path / "model"), read_manifest(folder)
    assert one.view == other.view == View(384)
    for part in ("encoder", "bottleneck", "condition", "diffusion"):
        assert one.entry(part).sha256 == other.entry(part).sha256, part
