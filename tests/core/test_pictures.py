"""Opening pictures: each odd format with the pixels it must give, each bad one with its reason."""

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlv_core.errors import DataError
from vlv_core.pictures import PICTURE_SUFFIXES, open_picture

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners() -> Image.Image:
    """3 x 2 px: red top left, green top right, blue bottom left, white elsewhere."""
    image = Image.new("RGB", (3, 2), WHITE)
    image.putpixel((0, 0), RED)
    image.putpixel((2, 0), GREEN)
    image.putpixel((0, 1), BLUE)
    return image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise_jpeg(edge: int = 64) -> bytes:
    pixels = np.random.Generator(np.random.Philox(0)).integers(0, 256, (edge, edge, 3), np.uint8)
    return encoded(Image.fromarray(pixels), "JPEG")


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels worth it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


# What each EXIF orientation says about the stored rows and columns (EXIF 2.3, table 6), undone.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(corners(), kind, exif=exif, **options)
    expected = UPRIGHT[orientation](np.asarray(corners()))
    picture = open_picture(data)
    np.testing.assert_array_equal(np.asarray(picture), expected)
    np.testing.assert_array_equal(np.asarray(open_picture(picture)), expected)


def test_exif_of_a_jpeg_and_of_an_open_image() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new("RGB", (40, 20), RED), "JPEG", exif=exif)
    assert open_picture(data).size == (20, 40)
    assert open_picture(Image.open(BytesIO(data))).size == (20, 40)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_leaves_the_picture_alone() -> None:
    data = encoded(corners(), "PNG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff\x00")
    assert open_picture(data).size == (3, 2)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    values = np.array([[0, 128, 129, 257], [32768, 40000, 65406, 65535]], np.uint16)
    picture = np.asarray(open_picture(encoded(Image.fromarray(values), kind)))
    expected = np.round(values / 257).astype(np.uint8)
    assert expected[1, 3] == 255
    np.testing.assert_array_equal(picture, np.repeat(expected[:, :, None], 3, axis=2))


def test_sixteen_bits_of_either_byte_order() -> None:
    values = np.array([[0, 1000, 65535]], np.uint16)
    big = Image.frombytes("I;16B", (3, 1), values.astype(">u2").tobytes())
    np.testing.assert_array_equal(np.asarray(open_picture(big))[0, :, 0], [0, 4, 255])


def test_grey_one_bit_and_grey_with_alpha() -> None:
    assert open_picture(encoded(Image.new("L", (2, 2), 7), "PNG")).getpixel((0, 0)) == (7, 7, 7)
    assert open_picture(encoded(Image.new("1", (2, 2), 1), "PNG")).getpixel((0, 0)) == WHITE
    assert open_picture(Image.new("LA", (2, 2), (0, 51))).getpixel((0, 0)) == (204, 204, 204)


def test_alpha_is_laid_over_white() -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 51))
    picture = open_picture(encoded(image, "PNG"))
    assert [picture.getpixel((x, 0)) for x in (0, 1)] == [WHITE, (255, 204, 204)]


def test_palette_with_transparency_is_laid_over_white() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((1, 0), 1)
    for kind in ("GIF", "PNG"):
        picture = open_picture(encoded(image, kind, transparency=0))
        assert [picture.getpixel((x, 0)) for x in (0, 1)] == [WHITE, RED], kind


def test_cmyk_becomes_rgb() -> None:
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    red, green, blue = open_picture(data).getpixel((8, 8))
    assert red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_several(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert open_picture(data).getpixel((0, 0)) == RED


def test_a_wrong_suffix_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "really a png.jpg"
    path.write_bytes(encoded(corners(), "PNG"))
    assert open_picture(path).getpixel((2, 0)) == GREEN
    assert open_picture(str(path)).mode == "RGB"


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 3), (2, 3, 4)])
def test_arrays_of_every_known_shape(shape: tuple[int, ...]) -> None:
    array = np.full(shape, 255, np.uint8)
    array[0, 0] = 0
    picture = open_picture(array)
    assert picture.size == (3, 2) and picture.getpixel((2, 1)) == WHITE
    assert picture.getpixel((0, 0)) == (WHITE if shape[-1] == 4 else (0, 0, 0))


def test_sixteen_bit_array_and_a_strided_one() -> None:
    wide = np.full((2, 2, 3), 65535, np.uint16)
    assert open_picture(wide).getpixel((0, 0)) == WHITE
    mirrored = np.asarray(corners())[:, ::-1]
    assert open_picture(mirrored).getpixel((0, 0)) == GREEN


REFUSED = {
    "zero bytes": (b"", "the file is empty"),
    "web page": (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    "web page, spaced": (b"\xef\xbb\xbf\r\n  <html lang='en'>", "web page"),
    "svg": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "this is SVG"),
    "heic": (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "this is HEIC"),
    "text": (b"a cat on a mat", "not a picture, or one with a damaged header; known: JPEG, PNG"),
    "truncated jpeg": (noise_jpeg()[:-900], "damaged picture: .*truncated"),
    "jpeg header alone": (noise_jpeg()[:30], "not a picture|damaged picture"),
    "truncated png": (encoded(Image.effect_noise((64, 64), 50), "PNG")[:900], "damaged picture"),
    "png without pixels": (png_header(64, 64), "damaged picture"),
    "bomb": (png_header(20000, 20000), "too many pixels: Image size .400000000 pixels. exceeds"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    "floats": (encoded(Image.new("F", (2, 2), 0.5), "TIFF"), "32-bit float"),
    "long integers": (encoded(Image.new("I", (2, 2), 70000), "TIFF"), "32-bit integer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_one_line_reason(name: str, tmp_path: Path) -> None:
    data, reason = REFUSED[name]
    with pytest.raises(DataError, match=reason) as caught:
        open_picture(data)
    assert "\n" not in caught.value.message
    path = tmp_path / "bad.jpg"
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"cannot read '.*bad\.jpg': .*({reason})"):
        open_picture(path)


def test_any_damage_gives_a_picture_or_a_data_error() -> None:
    random = np.random.Generator(np.random.Philox(1))
    sources = [noise_jpeg(32), encoded(corners(), "PNG"), encoded(corners(), "GIF")]
    for trial in range(150):
        data = bytearray(sources[trial % 3])
        for position in random.integers(0, len(data), 3):
            data[position] = random.integers(0, 256)
        try:
            assert open_picture(bytes(data), max_pixels=10**6).mode == "RGB"
        except DataError as error:
            assert "\n" not in error.message


def test_limit_is_checked_before_decoding() -> None:
    data = encoded(corners(), "PNG")
    assert open_picture(data, max_pixels=6).size == (3, 2)
    with pytest.raises(DataError, match="3 x 2 pixels are too many, the limit is 5"):
        open_picture(data, max_pixels=5)
    # The header alone decides: these pixels could not be decoded anyhow.
    with pytest.raises(DataError, match="too many"):
        open_picture(png_header(100, 100), max_pixels=5)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read '.*none\.jpg': No such file"):
        open_picture(tmp_path / "none.jpg")
    with pytest.raises(DataError, match="not a file"):
        open_picture(tmp_path)
    (tmp_path / "dangling.jpg").symlink_to("gone.jpg")
    with pytest.raises(DataError, match="No such file"):
        open_picture(tmp_path / "dangling.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(DataError, match="not a file"):
        open_picture(tmp_path / "pipe.jpg")
    with pytest.raises(DataError, match="null"):
        open_picture("nul\0.jpg")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_permissions(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(corners(), "PNG"))
    path.chmod(0)
    with pytest.raises(DataError, match="Permission denied"):
        open_picture(path)


def test_objects_that_are_no_pictures() -> None:
    with pytest.raises(DataError, match="int is not a picture; known: a path, bytes"):
        open_picture(3)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="array of float32 is not a picture; known: uint8"):
        open_picture(np.zeros((2, 2, 3), np.float32))
    with pytest.raises(DataError, match=r"shape \(2, 2, 2\) is not a picture"):
        open_picture(np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(DataError, match=r"shape \(0, 2, 3\) is empty"):
        open_picture(np.zeros((0, 2, 3), np.uint8))
    with pytest.raises(DataError, match="0 x 4 pixels: nothing to see"):
        open_picture(Image.new("RGB", (0, 4)))


def test_suffixes_are_lower_case() -> None:
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in PICTURE_SUFFIXES)
