"""An imported model answers what the libraries' own models do, whose weights were imported."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.plugins.official.plugins import plugins
from tests.plugins.official.reference import bring
from tests.plugins.official.release import PHI, PSI, QUERIES, Release, random_views
from tests.plugins.stable_diffusion.tiny import VIEW
from vlv_core import Conditioning
from vlv_core.generation import GenerationOptions
from vlv_core.model import VLV
from vlv_core.model_folder import load_model, open_model
from vlv_core.preprocess import to_pixels
from vlv_core.specs import OpenOptions

NAMES = ("pixels", "decoder_hidden", "z", "context", "prefix", "vae_mean")


@pytest.fixture(scope="module")
def folder(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By way of the most wrapped kind of file: under a key, with a prefix, and with a step."""
    place = tmp_path_factory.mktemp("numbers")
    state = {f"module.{name}": tensor for name, tensor in release.state.items()}
    torch.save({"step": 5, "model_state_dict": state}, place / "stage2.pt")
    result = bring(place / "stage2.pt", place / "model", release.models, "--view-size", str(VIEW))
    assert result.exit_code == 0, result.output
    return place / "model"


@pytest.fixture(scope="module")
def model(folder: Path) -> VLV:
    return load_model(folder, plugins=plugins())[0].requires_grad_(False)


@pytest.fixture(scope="module")
def due(release: Release) -> Mapping[str, Tensor]:
    return release.answers(random_views())


@pytest.fixture(scope="module")
def seen(model: VLV) -> Mapping[str, Tensor]:
    views = random_views()
    small = torch.from_numpy(to_pixels(views.numpy(), model.encoder.pixels))
    tokens = model.encoder(small)
    return {
        "pixels": model.encoder.normalise(small),
        "decoder_hidden": model.bottleneck.read(tokens),
        **model.read(tokens)._asdict(),
        "vae_mean": model.diffusion.moments(views).chunk(2, dim=1)[0],
    }


@pytest.mark.parametrize("name", NAMES)
def test_numbers(name: str, seen: Mapping[str, Tensor], due: Mapping[str, Tensor]) -> None:
    torch.testing.assert_close(seen[name], due[name], atol=1e-5, rtol=1e-5)


def test_scores_of_the_first_word(
    model: VLV, seen: Mapping[str, Tensor], due: Mapping[str, Tensor]
) -> None:
    top = model.head.start(seen["prefix"], 40).prefill(model.head.vocab_size)
    scores = torch.empty(top.ids.shape).scatter(
        1, torch.from_numpy(top.ids), torch.from_numpy(top.log_probs)
    )
    logits = due["last_logits"].log_softmax(dim=1)
    torch.testing.assert_close(scores, logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "beams"), [("greedy", 1), ("beam4", 4)])
def test_words(name: str, beams: int, folder: Path, due: Mapping[str, Tensor]) -> None:
    captioner = open_model(folder, OpenOptions(device="cpu", plugins=plugins()))
    options = GenerationOptions(
        max_new_tokens=8, beams=beams, early_stopping=beams > 1, stop_on_repetition=False
    )
    captions = captioner.caption(list(random_views().numpy()), options=options)
    for caption, row in zip(captions, due[name].tolist(), strict=True):
        assert list(caption.tokens) == (row[: row.index(256)] if 256 in row else row)


def test_the_denoisers_answer(release: Release, model: VLV, due: Mapping[str, Tensor]) -> None:
    noisy = torch.randn(3, *model.diffusion.latent_shape)
    t = torch.tensor([3, 500, 999])
    with torch.no_grad():
        answer = release.pipe.unet(noisy, t, encoder_hidden_states=due["context"]).sample
        found = model.diffusion.predict(noisy, t, Conditioning(due["context"]))
    torch.testing.assert_close(found, answer, atol=1e-5, rtol=1e-5)


def test_sizes_are_the_checkpoints(folder: Path, model: VLV) -> None:
    assert model.bottleneck.num_queries == QUERIES
    assert model.bottleneck.phi[0].out_features == PHI
    assert model.connector.layers[0].out_features == PSI
    assert model.head.max_length == 96, "the language model has no more positions"
    sizes = json.loads((folder / "import.json").read_text())["sizes"]
    assert sizes == {
        "K": 6, "D": 24, "phi_hidden": 20, "Dz": 32,
        "Dc": 32, "connector_hidden": 28, "connector_depth": 2, "Dl": 40,
    }  # fmt: skip


def test_the_report_names_every_key(release: Release, folder: Path) -> None:
    report = json.loads((folder / "import.json").read_text())
    keys = {f"module.{name}" for name in release.state}
    assert set(report["used"]) | set(report["unused"]) == keys | {"step"}
    assert not set(report["used"]) & set(report["unused"])
    assert report["missing"] == {}
    lm_head = "module.VLV_model.model.language_model.lm_head.weight"
    assert "output layer is not on the way" in report["unused"][lm_head]
    text = (folder / "import.md").read_text()
    assert all(f"`{key}`" in text for key in (*report["used"], *report["unused"]))
    assert "never supervised the end of a text" in text


def test_the_manifest_says_where_it_comes_from(folder: Path) -> None:
    import tomllib

    manifest = tomllib.loads((folder / "model.toml").read_text())
    assert manifest["training"]["imported"] == "stage2.pt"
    assert len(manifest["training"]["sha256"]) == 64
    assert all("file" in part and "source" not in part for part in manifest["parts"].values())
