"""Pixels against transformers' own processor; and what happens to pictures before it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tests.plugins.florence2.tiny_florence import ARCHITECTURE, SIZE
from vlv_core.preprocess import to_pixels, to_view
from vlv_core.specs import Near, PixelSpec, View
from vlv_plugins.florence2._encoder import Florence2Encoder, build
from vlv_plugins.florence2.config import PIXELS, EncoderConfig

SPEC = PixelSpec(SIZE, PIXELS.fit, PIXELS.resample, PIXELS.mean, PIXELS.std)


@pytest.fixture(scope="module")
def encoder() -> Florence2Encoder:
    return build(EncoderConfig(architecture=ARCHITECTURE, pixels=SPEC), Near(view_size=SIZE))


def noise(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    generator = np.random.Generator(np.random.Philox(height * 1000 + width))
    return generator.integers(0, 256, (height, width, channels), dtype=np.uint8)


def processed(picture: Image.Image) -> NDArray[np.float32]:
    """By the class that Florence-2's preprocessor_config.json names, on Pillow."""
    processor = CLIPImageProcessorPil(
        do_center_crop=False,
        size={"height": SIZE, "width": SIZE},
        resample=3,
        image_mean=list(PIXELS.mean),
        image_std=list(PIXELS.std),
    )
    return np.asarray(processor(picture, return_tensors="np")["pixel_values"])


def ours(encoder: Florence2Encoder, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return encoder.normalise(torch.from_numpy(pixels)).numpy()


@pytest.mark.parametrize("edge", [SIZE, 1, 7, 63, 65, 97, 383])
def test_views_of_any_size(encoder: Florence2Encoder, edge: int) -> None:
    view = noise(edge, edge)
    mine = ours(encoder, to_pixels(view[None], SPEC))
    np.testing.assert_allclose(mine, processed(Image.fromarray(view)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(33, 71), (101, 64), (64, 101), (3, 200), (199, 2)])
def test_pictures_of_odd_shapes(encoder: Florence2Encoder, shape: tuple[int, int]) -> None:
    """A view that squashes as the processor does makes the processor's pixels of any picture."""
    picture = noise(*shape)
    view = to_view(picture, View(SIZE, fit="squash", resample="bicubic"))
    mine = ours(encoder, to_pixels(view[None], SPEC))
    np.testing.assert_allclose(mine, processed(Image.fromarray(picture)), atol=1e-6, rtol=0)


def test_every_picture_is_rgb_upright_and_eight_bits_before_it(
    encoder: Florence2Encoder, tmp_path: Path
) -> None:
    """EXIF, grey, 16 bits and transparency are settled by the core; the processor would not."""
    view = View(SIZE, fit="squash", resample="bicubic")
    grey = noise(40, 40, 1)[:, :, 0]
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    same = {"grey.png": Image.fromarray(grey), "deep.png": deep(grey)}
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(rgb)))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    for name, picture in same.items():
        picture.save(tmp_path / name)
    due = processed(Image.fromarray(rgb))
    for name in (*same, "turned.png"):
        mine = ours(encoder, to_pixels(to_view(tmp_path / name, view)[None], SPEC))
        np.testing.assert_allclose(mine, due, atol=1e-6, rtol=0, err_msg=name)


def test_transparency_shows_white(encoder: Florence2Encoder) -> None:
    clear = np.dstack([noise(30, 30), np.zeros((30, 30), np.uint8)])
    white = Image.new("RGB", (30, 30), "white")
    view = to_view(clear, View(SIZE, fit="squash", resample="bicubic"))
    mine = ours(encoder, to_pixels(view[None], SPEC))
    np.testing.assert_allclose(mine, processed(white), atol=1e-6, rtol=0)


def deep(grey: NDArray[np.uint8]) -> Image.Image:
    """The same picture at 16 bits: 255 becomes 65535."""
    return Image.fromarray(grey.astype(np.uint16) * 257)
