"""The captioner's own promises, on a tiny random model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.core import tiny_folder
from vlv_core import Encoded
from vlv_core.captioner import Captioner
from vlv_core.compose import choose, compose
from vlv_core.errors import UsageError
from vlv_core.generation import GenerationOptions
from vlv_core.plugins import load_plugins
from vlv_core.specs import View
from vlv_core.torch_backend import TorchBackend, pick_device, pick_dtype

OPTIONS = {
    **tiny_folder.OPTIONS,
    "bottleneck": ("query", {"num_queries": 6, "depth": 2, "heads": 2}),
    "head": ("mini-lm", {**tiny_folder.OPTIONS["head"][1], "max_length": 40}),
}
TEN = GenerationOptions(max_new_tokens=10, stop_on_repetition=False)


def tiny(*, diffusion: bool = True) -> Captioner:
    plugins = load_plugins(third_party=False)
    chosen = {role: choose(role, *named, plugins=plugins) for role, named in OPTIONS.items()}
    torch.manual_seed(5)
    model = compose(chosen, view=View(size=64), diffusion=diffusion).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    backend = TorchBackend(model)
    return Captioner(backend, name="tiny@0", domain="noise", view=View(size=64))


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return tiny()


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(5)]


def test_encode_has_the_declared_shapes(captioner: Captioner, pictures: list[np.ndarray]) -> None:
    encoded = captioner.encode(pictures)
    assert encoded.z.shape == encoded.context.shape == encoded.prefix.shape == (5, 6, 16)
    assert encoded.pooled is None
    assert len(encoded[1:3]) == 2


def test_alone_or_in_a_batch_a_picture_gets_the_same_caption(
    captioner: Captioner, pictures: list[np.ndarray]
) -> None:
    for options in (TEN, GenerationOptions(max_new_tokens=10, beams=3)):
        together = captioner.caption(pictures, options=options)
        alone = [captioner.caption(one, options=options)[0] for one in pictures]
        assert [c.tokens for c in alone] == [c.tokens for c in together]


def test_sampled_words_depend_on_the_key_and_not_on_the_batch(
    captioner: Captioner, pictures: list[np.ndarray]
) -> None:
    options = GenerationOptions(max_new_tokens=10, temperature=1.0, seed=3)
    keys = [7, 8, 9, 10, 11]
    together = captioner.caption(pictures, options=options, keys=keys)
    alone = captioner.caption(pictures[2], options=options, keys=[9])
    assert alone[0].tokens == together[2].tokens
    other = captioner.caption(pictures[2], options=options, keys=[10])
    assert other[0].tokens != alone[0].tokens


def test_a_stream_joins_to_the_caption(captioner: Captioner, pictures: list[np.ndarray]) -> None:
    for picture in pictures:
        text = captioner.caption(picture, options=TEN)[0].text
        assert "".join(captioner.stream(picture, options=TEN)) == text


def test_what_encode_gave_is_captioned_without_the_encoder(
    captioner: Captioner, pictures: list[np.ndarray]
) -> None:
    encoded = captioner.encode(pictures)
    direct = captioner.caption(pictures, options=TEN)
    assert captioner.caption(encoded, options=TEN) == direct


def test_paths_pictures_and_arrays_are_alike(
    captioner: Captioner, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    from PIL import Image

    image = Image.fromarray(pictures[0])
    image.save(tmp_path / "a.png")
    answers = captioner.caption([str(tmp_path / "a.png"), image, pictures[0]], options=TEN)
    assert len({answer.tokens for answer in answers}) == 1


def test_no_pictures_no_captions(captioner: Captioner) -> None:
    assert captioner.caption([]) == []


def test_by_default_a_caption_is_as_long_as_the_model_holds(
    captioner: Captioner, pictures: list[np.ndarray]
) -> None:
    options = captioner.options(captioner.encode(pictures[:1]), None)
    assert options.max_new_tokens == 40 - 6


def test_longer_captions_than_the_model_holds_are_refused(
    captioner: Captioner, pictures: list[np.ndarray]
) -> None:
    with pytest.raises(UsageError, match="max_new_tokens is 35, but this model holds 34 beside"):
        captioner.caption(pictures, options=GenerationOptions(max_new_tokens=35))


def test_reconstruction_noise_belongs_to_the_key(
    captioner: Captioner, pictures: list[np.ndarray]
) -> None:
    both = captioner.reconstruct(pictures[:2], seed=1, steps=3, keys=[4, 5])
    alone = captioner.reconstruct(pictures[1], seed=1, steps=3, keys=[5])
    assert both.shape == (2, 64, 64, 3)
    assert both.dtype == np.uint8
    assert np.abs(both[1].astype(int) - alone[0].astype(int)).max() <= 1
    other = captioner.reconstruct(pictures[1], seed=2, steps=3, keys=[5])
    assert np.abs(other[0].astype(int) - alone[0].astype(int)).max() > 1


def test_guidance_of_one_never_runs_the_unconditional_branch(
    pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = tiny()
    calls: list[int] = []
    predict = captioner.backend.predict

    def counted(latents: np.ndarray, t: np.ndarray, given: object) -> np.ndarray:
        calls.append(len(latents))
        return predict(latents, t, given)  # type: ignore[arg-type]

    monkeypatch.setattr(captioner.backend, "predict", counted)
    captioner.reconstruct(pictures[:2], seed=0, steps=3, guidance=1.0)
    assert calls == [2, 2, 2]
    captioner.reconstruct(pictures[:2], seed=0, steps=3, guidance=2.0)
    assert calls == [2] * 9


def test_captions_can_be_drawn(captioner: Captioner) -> None:
    drawn = captioner.reconstruct(captioner.from_text(["a red circle.", ""]), seed=0, steps=2)
    assert drawn.shape == (2, 64, 64, 3)


def test_without_the_diffusion_nothing_is_drawn(pictures: list[np.ndarray]) -> None:
    with pytest.raises(UsageError, match="loaded without its diffusion, so it cannot draw"):
        tiny(diffusion=False).reconstruct(pictures, seed=0)


def test_mixing_the_whole_of_one_is_that_one(
    captioner: Captioner, pictures: list[np.ndarray]
) -> None:
    encoded = captioner.encode(pictures[0])
    mixed = captioner.mix([encoded.z[0]], keep=[6])
    np.testing.assert_allclose(mixed.context, encoded.context, atol=1e-5)
    np.testing.assert_allclose(mixed.prefix, encoded.prefix, atol=1e-5)


def test_truncating_z_leaves_the_first_contexts_as_they_are(
    captioner: Captioner, pictures: list[np.ndarray]
) -> None:
    encoded = captioner.encode(pictures[:2])
    mixed = captioner.mix([encoded.z[0], encoded.z[1]], keep=[4, 3])
    assert mixed.z.shape == (1, 7, 16)
    np.testing.assert_allclose(mixed.context[0, :4], encoded.context[0, :4], atol=1e-5)
    assert isinstance(mixed, Encoded)
    assert len(captioner.caption(mixed, options=TEN)) == 1


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ([3], "mix got 2 embeddings and 1 counts"),
        ([7, 1], "keep is 7, but the embedding has 6 rows"),
        ([0, 0], "mix would keep 0 rows; this model reads 1 to 77"),
    ],
)
def test_counts_that_do_not_fit_are_refused(
    captioner: Captioner, pictures: list[np.ndarray], keep: list[int], message: str
) -> None:
    encoded = captioner.encode(pictures[:2])
    with pytest.raises(UsageError, match=message):
        captioner.mix([encoded.z[0], encoded.z[1]], keep=keep)


def test_a_model_that_is_not_causal_does_not_mix(pictures: list[np.ndarray]) -> None:
    captioner = tiny()
    captioner.backend.model.bottleneck.causal = False  # type: ignore[attr-defined]
    other = Captioner(
        TorchBackend(captioner.backend.model),  # type: ignore[attr-defined]
        name="x",
        domain="",
        view=View(size=64),
    )
    with pytest.raises(UsageError, match="not causal, so a truncated z is not exact"):
        other.mix([captioner.encode(pictures[0]).z], keep=[2])


def test_devices_and_dtypes_are_checked() -> None:
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(UsageError, match="no device named 'gpu'; use auto, cpu, cuda"):
        pick_device("gpu")
    with pytest.raises(UsageError, match="no dtype named 'int3'; use float32, bfloat16, float16"):
        pick_dtype("int3")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="device 'cuda' is not there"):
            pick_device("cuda")
