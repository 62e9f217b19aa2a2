"""Pictures of all kinds, hostile ones too: the words of `caption` on the file, or a clear no."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.core.serving.toy_server import Server, chat, data_url, encoded, picture, serving, toy


@pytest.fixture(scope="module")
def server() -> Any:
    with serving(max_pixels=100_000, max_bytes=300_000) as running:
        yield running


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    rng = np.random.default_rng(width * 1000 + height)
    values = rng.integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Image.fromarray(values[:, :, 0] if bands == 1 else values, mode)


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(noise(20, 12), "JPEG", exif=exif.tobytes(), quality=95)


def animated() -> bytes:
    frames = [noise(10 + 0 * n, 10).rotate(90 * n) for n in range(3)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)


GOOD = {
    "1x1": encoded(noise(1, 1)),
    "strip": encoded(noise(3000, 1)),
    "grey": encoded(noise(9, 7, "L")),
    "alpha": encoded(noise(9, 7, "RGBA")),
    "palette": encoded(noise(9, 7).quantize(8)),
    "16-bit": encoded(Image.fromarray(np.arange(99, dtype=np.uint16).reshape(9, 11) * 600)),
    "cmyk jpeg": encoded(noise(16, 16, "CMYK"), "JPEG"),
    "animated gif": animated(),
    "webp": encoded(noise(9, 7), "WEBP"),
    "bmp": encoded(noise(9, 7), "BMP"),
    "tiff": encoded(noise(9, 7), "TIFF"),
    **{f"exif {orientation}": turned(orientation) for orientation in range(1, 9)},
}


@pytest.mark.parametrize("name", GOOD)
def test_the_words_are_those_of_the_file(server: Server, name: str, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(GOOD[name])
    # the declared type is not believed: the bytes decide
    answer = server.post(chat(url=data_url(GOOD[name], "image/x-whatever")))
    assert answer.status == 200
    assert answer.text == toy().caption([path])[0].text


def test_turned_pictures_differ() -> None:
    texts = [toy().caption([turned(orientation)])[0].text for orientation in range(1, 9)]
    assert len(set(texts)) > 1


def bomb(width: int, height: int) -> bytes:
    """A PNG that says its size and holds nearly nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


BAD = {
    "cut": (encoded(noise(40, 40))[:-900], "damaged picture"),
    "cut jpeg": (encoded(noise(40, 40), "JPEG")[:300], "damaged picture"),
    "empty": (b"", "the file is empty"),
    "text": (b"not a picture at all", "not a picture, or one with a damaged header; known: JPEG"),
    "html": (b"<html><body>404</body></html>", "this is a web page"),
    "svg": (b"<svg xmlns='x'/>", "this is SVG"),
    "script": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    "many pixels": (encoded(Image.new("1", (400, 300))), "400 x 300 pixels are too many"),
    "bomb": (bomb(30_000, 30_000), "too many pixels"),
    "bigger bomb": (bomb(2**31 - 1, 2**31 - 1), "too many pixels"),
    "float": (encoded(Image.new("F", (4, 4)), "TIFF"), "32-bit float pixels have no agreed white"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_picture_is_refused(server: Server, name: str) -> None:
    data, message = BAD[name]
    answer = server.post(chat(url=data_url(data)))
    assert answer.status == 400 and answer.error["code"] == "invalid_image"
    assert message in answer.error["message"]
    assert "Traceback" not in answer.body.decode() and "\n" not in answer.error["message"]


# Pillow warns of damaged metadata
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_files_never_fail_the_server(server: Server) -> None:
    rng = np.random.default_rng(0)
    before = server.metric('vlv_requests_total{outcome="failed",stream="false"}')
    for name in ("cmyk jpeg", "animated gif", "webp", "tiff", "palette", "exif 6"):
        for _ in range(6):
            data = bytearray(GOOD[name])
            for place in rng.integers(0, len(data), 5):
                data[place] = rng.integers(0, 256)
            assert server.post(chat(bytes(data))).status in (200, 400)
    assert server.metric('vlv_requests_total{outcome="failed",stream="false"}') == before == 0


def test_a_body_that_says_it_is_too_big_is_not_read(server: Server) -> None:
    connection = server.connect()
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "300001")
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 413 and response.getheader("Connection") == "close"
    assert b"the body is larger than 300000 bytes; shrink the picture first" in response.read()
    connection.close()


def test_a_body_that_does_not_say_its_size_is_cut(server: Server) -> None:
    connection = server.connect()
    sent = 0

    def chunks() -> Any:
        nonlocal sent
        for _ in range(10_000):
            sent += 10_000
            yield b" " * 10_000

    try:
        connection.request(
            "POST",
            "/v1/chat/completions",
            chunks(),
            {"Content-Type": "application/json", "Transfer-Encoding": "chunked"},
            encode_chunked=True,
        )
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        # The server had answered and closed before the hundred megabytes were sent.
        assert sent < 50_000_000
    connection.close()


def test_a_body_of_the_largest_size_is_read(server: Server) -> None:
    body = b'{"model": "toy"' + b" " * 299_984 + b"}"
    assert len(body) == 300_000
    assert "messages must be a list" in server.post(body).error["message"]
    assert server.post(body + b" ").status == 413
    assert server.post(chat(picture(1))).status == 200
