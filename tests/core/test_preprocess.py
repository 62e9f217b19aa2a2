"""Views and pixels against hand-made expectations and an independent resampler."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from vlv_core import preprocess
from vlv_core.errors import ConfigError, DataError
from vlv_core.preprocess import to_pixels, to_view, views
from vlv_core.specs import PixelSpec, View


def columns(width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3); the red value is the column, the green one the row."""
    array = np.zeros((height, width, 3), np.uint8)
    array[:, :, 0] = np.arange(width)
    array[:, :, 1] = np.arange(height)[:, None]
    return array


def noise(*shape: int, key: int = 0) -> NDArray[np.uint8]:
    return np.random.Generator(np.random.Philox(key)).integers(0, 256, shape, np.uint8)


def triangle(length: int, size: int) -> NDArray[np.float64]:
    """(size, length): antialiased bilinear weights, written down from the definition."""
    scale = length / size
    support = max(scale, 1.0)
    centres = (np.arange(size)[:, None] + 0.5) * scale
    distance = np.abs(np.arange(length)[None] + 0.5 - centres) / support
    weights = np.clip(1 - distance, 0, None)
    return weights / weights.sum(1, keepdims=True)


# torchvision: int(round((length - size) / 2.0)), where Python rounds halves to even.
@pytest.mark.parametrize(
    ("length", "left"), [(4, 0), (5, 0), (6, 1), (7, 2), (8, 2), (9, 2), (10, 3), (11, 4)]
)
def test_centre_crop_offset_is_torchvisions(length: int, left: int) -> None:
    view = View(size=4)
    across = to_view(columns(length, 4), view)
    assert across[0, :, 0].tolist() == list(range(left, left + 4))
    down = to_view(columns(4, length), view)
    assert down[:, 0, 1].tolist() == list(range(left, left + 4))


def test_crop_equals_the_two_steps_of_the_official_view() -> None:
    # 500 x 333 -> int(384 * 500 / 333) = 576 x 384 -> left = round(192 / 2.0) = 96
    picture = noise(333, 500, 3)
    resized = Image.fromarray(picture).resize((576, 384), Image.Resampling.BILINEAR)
    expected = np.asarray(resized)[:, 96:480]
    np.testing.assert_array_equal(to_view(picture, View(size=384)), expected)


def test_resizing_is_the_antialiased_triangle_filter() -> None:
    picture = noise(50, 30, 3)
    weights = triangle(30, 8), triangle(50, 13)
    exact = np.einsum("xw,yh,hwc->yxc", *weights, picture.astype(np.float64))[2:10]
    got = to_view(picture, View(size=8)).astype(np.float64)
    assert np.abs(got - exact).max() <= 1.0


def test_squash_pad_and_their_sizes() -> None:
    white = np.full((10, 40, 3), 255, np.uint8)
    red = white.copy()
    red[:, :, 1:] = 0
    assert (to_view(red, View(size=8, fit="squash")) == (255, 0, 0)).all()
    padded = to_view(red, View(size=8, fit="pad"))
    assert (padded[3:5] == (255, 0, 0)).all()
    assert (padded[[0, 1, 2, 5, 6, 7]] == 255).all()


def test_filters_are_pillows() -> None:
    picture = noise(20, 20, 3)
    for resample, kernel in (("nearest", 0), ("bicubic", 3), ("lanczos", 1), ("area", 4)):
        expected = Image.fromarray(picture).resize((7, 7), kernel)
        got = to_view(picture, View(size=7, fit="squash", resample=resample))  # type: ignore[arg-type]
        np.testing.assert_array_equal(got, np.asarray(expected))


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 20000), (20000, 1), (2, 5000), (3, 2)])
def test_long_and_tiny_pictures(size: tuple[int, int], fit: str) -> None:
    picture = np.full((*size, 3), 9, np.uint8)
    view = to_view(picture, View(size=32, fit=fit))  # type: ignore[arg-type]
    assert view.shape == (32, 32, 3) and (view == 9).all(-1).any()


@pytest.mark.parametrize("shape", [(6, 201, 3), (201, 6, 3)])
def test_cropping_while_resizing_equals_cropping_after(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, view = noise(*shape), View(size=16)
    together = to_view(picture, view).astype(int)
    monkeypatch.setattr(preprocess, "_LONGEST", 10**9)
    assert np.abs(together - to_view(picture, view)).max() <= 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(["crop", "squash", "pad"]))
def test_every_size_gives_a_view(width: int, height: int, fit: str) -> None:
    view = to_view(noise(height, width, 3), View(size=16, fit=fit))  # type: ignore[arg-type]
    assert view.shape == (16, 16, 3) and view.dtype == np.uint8


def test_a_view_stays_as_it_is() -> None:
    picture = noise(16, 16, 3)
    assert to_view(picture, View(size=16)) is picture
    np.testing.assert_array_equal(to_view(Image.fromarray(picture), View(size=16)), picture)


def test_views_can_be_written_to() -> None:
    assert to_view(noise(20, 30, 3), View(size=16)).flags.writeable


def test_views_of_many_of_one_and_of_none(tmp_path: Path) -> None:
    view = View(size=8)
    arrays = [noise(9, 12, 3, key=key) for key in range(3)]
    batch = views(arrays, view)
    assert batch.shape == (3, 8, 8, 3) and batch.dtype == np.uint8
    for row, array in zip(batch, arrays, strict=True):
        np.testing.assert_array_equal(row, to_view(array, view))
    path = tmp_path / "a.png"
    Image.fromarray(arrays[0]).save(path)
    for single in (arrays[0], path, str(path), path.read_bytes(), Image.fromarray(arrays[0])):
        np.testing.assert_array_equal(views(single, view), batch[:1])
    assert views([], view).shape == (0, 8, 8, 3)
    np.testing.assert_array_equal(views(batch, view), batch)


def test_a_bad_picture_among_views_is_named() -> None:
    with pytest.raises(DataError, match=r"cannot read 'none\.png'"):
        views([noise(9, 9, 3), "none.png"], View(size=8))


def test_pixels_equal_pillows_resize() -> None:
    batch = noise(2, 24, 24, 3)
    spec = PixelSpec(size=40)
    pixels = to_pixels(batch, spec)
    assert pixels.shape == (2, 40, 40, 3) and pixels.dtype == np.uint8
    for got, picture in zip(pixels, batch, strict=True):
        expected = Image.fromarray(picture).resize((40, 40), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(got, np.asarray(expected))
    np.testing.assert_array_equal(to_pixels(batch[0], spec), pixels[0])


def test_pixels_of_the_views_size_are_the_view() -> None:
    batch = noise(2, 24, 24, 3)
    assert to_pixels(batch, PixelSpec(size=24)) is batch


def test_pixels_equal_the_original_processors() -> None:
    transforms = pytest.importorskip("transformers.image_transforms")
    picture = noise(24, 24, 3)
    for resample, kernel in (("bicubic", 3), ("bilinear", 2)):
        expected = transforms.resize(
            picture, (48, 48), resample=kernel, input_data_format="channels_last"
        )
        got = to_pixels(picture, PixelSpec(size=48, resample=resample))  # type: ignore[arg-type]
        np.testing.assert_array_equal(got, expected)


def test_pictures_data_and_jobs_import_no_torch() -> None:
    names = "preprocess, data.folder, data.jsonl, data.order, data.quarantine, jobs, cli.caption"
    modules = ", ".join(f"vlv_core.{name}" for name in names.split(", "))
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_pixels_are_resized_to_an_edge_and_cropped_from_it() -> None:
    picture = noise(33, 33, 3)
    resized = np.asarray(Image.fromarray(picture).resize((19, 19), Image.Resampling.BICUBIC))
    # (19 - 16) / 2 = 1.5, and transformers rounds it down
    got = to_pixels(picture, PixelSpec(size=16, fit="crop", edge=19))
    np.testing.assert_array_equal(got, resized[1:17, 1:17])
    same_size = noise(16, 16, 3)
    assert not np.array_equal(to_pixels(same_size, PixelSpec(16, "crop", edge=19)), same_size)


@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
def test_an_edge_is_for_crops_and_not_smaller_than_them(fit: str) -> None:
    with pytest.raises(ConfigError, match=rf"edge 15 does not go with fit '{fit}' and size 16"):
        PixelSpec(size=16, fit=fit, edge=15)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="edge 300 does not go with fit 'squash'"):
        PixelSpec(size=16, edge=300)
