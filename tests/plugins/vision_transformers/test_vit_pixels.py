"""Pixels against transformers' own processors on pictures of odd sizes."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import interpolate
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tests.plugins.vision_transformers.test_vit_forward import made
from tests.plugins.vision_transformers.tiny_models import noise
from vlv_core import PixelSpec
from vlv_core.preprocess import to_pixels
from vlv_plugins import _hub
from vlv_plugins.vision_transformers._files import pixel_spec

PROCESSORS: dict[str, Any] = {
    "openai/clip-vit-large-patch14": CLIPImageProcessorPil,
    "google/siglip-so400m-patch14-384": SiglipImageProcessorPil,
    "google/siglip2-base-patch16-256": SiglipImageProcessorPil,
    "facebook/dinov2-base": BitImageProcessorPil,
    "google/vit-base-patch16-224": ViTImageProcessorPil,
}


def processor_of(name: str) -> dict[str, Any]:
    files = _hub.preset("vlv_plugins.vision_transformers", name)
    assert files is not None
    found: dict[str, Any] = files["preprocessor_config.json"]
    return found


def normalised(picture: NDArray[np.uint8], spec: PixelSpec) -> NDArray[np.float32]:
    """(3, size, size) as the encoder's first operations make them."""
    encoder = made("dinov2", pixels=spec)
    return encoder._normalised(torch.from_numpy(to_pixels(picture, spec))[None])[0].numpy()


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize(
    "size", [(385, 385), (51, 51), (224, 224), (301, 333), (97, 61), (256, 255)]
)
def test_pixels_are_the_processors(name: str, size: tuple[int, int]) -> None:
    picture, table = noise(*size, 3), processor_of(name)
    due = PROCESSORS[name](**table)(Image.fromarray(picture))["pixel_values"][0]
    got = normalised(picture, pixel_spec(table))
    assert got.shape == due.shape
    np.testing.assert_allclose(got, due, atol=1e-6, rtol=0)


@pytest.mark.parametrize("edge", [17, 19, 20, 23])
def test_crops_of_odd_margins_are_the_processors(edge: int) -> None:
    table = {**processor_of("facebook/dinov2-base"), "size": {"shortest_edge": edge}}
    table["crop_size"] = {"height": 16, "width": 16}
    picture = noise(33, 33, 3)
    due = BitImageProcessorPil(**table)(Image.fromarray(picture))["pixel_values"][0]
    np.testing.assert_allclose(normalised(picture, pixel_spec(table)), due, atol=1e-6, rtol=0)


def test_dinov3_differs_by_the_rounding_to_bytes_alone() -> None:
    # Its processor resizes fractions, by torch; there is none that works on bytes.
    table = processor_of("facebook/dinov3-vitb16-pretrain-lvd1689m")
    spec, picture = pixel_spec(table), noise(301, 301, 3)
    planes = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
    exact = interpolate(planes, (224, 224), mode="bilinear", antialias=True)[0].numpy()
    mean, std = (np.array(each, np.float32)[:, None, None] for each in (spec.mean, spec.std))
    got = normalised(picture, spec) * std + mean
    assert np.abs(got - exact).max() * 255 < 1.01
