"""Awkward pictures that can be read all the same."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from vlv_plugins.scenes.zoo.entry import Entry, encoded, scene_picture

_EXIF_ORIENTATION = 0x0112
_QUARTER_TURN = 6

AWKWARD_NAMES = ("name with spaces", "emoji \N{FOX FACE}", "quotes ' and \"", "line\nbreak")


def write_readable(folder: Path) -> Iterator[Entry]:
    """Write the pictures whose outcome is ok."""
    yield from _modes(folder)
    yield from _containers(folder)
    yield from _copies(folder)
    yield from _names(folder)


def _modes(folder: Path) -> Iterator[Entry]:
    picture = scene_picture(0)
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    yield Entry("cmyk.jpg", "ok", "four inks become RGB", size=(64, 64))

    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(folder / "sixteen-bit.png")
    yield Entry("sixteen-bit.png", "ok", "sixteen bits are scaled to eight", size=(64, 64))

    palette = picture.quantize(16)
    palette.save(folder / "palette-alpha.png", transparency=0)
    yield Entry("palette-alpha.png", "ok", "transparent colour over white", size=(64, 64))

    picture.resize((1, 300)).save(folder / "one-by-n.png")
    yield Entry("one-by-n.png", "ok", "one pixel wide", size=(1, 300))


def _containers(folder: Path) -> Iterator[Entry]:
    (folder / "wrong-extension.jpg").write_bytes(encoded(scene_picture(1), "PNG"))
    yield Entry("wrong-extension.jpg", "ok", "PNG named .jpg: content decides", size=(64, 64))

    first, *others = (scene_picture(index) for index in range(2, 5))
    first.save(folder / "animated.gif", save_all=True, append_images=others, duration=100)
    yield Entry("animated.gif", "ok", "its first frame", size=(64, 64))

    exif = Image.Exif()
    exif[_EXIF_ORIENTATION] = _QUARTER_TURN
    wide = scene_picture(5).crop((0, 0, 64, 40))
    wide.save(folder / "exif-rotated.jpg", exif=exif)
    yield Entry("exif-rotated.jpg", "ok", "stored lying, shown upright", size=(40, 64))


def _copies(folder: Path) -> Iterator[Entry]:
    picture = scene_picture(6)
    for name in ("original.png", "exact-duplicate.png"):
        picture.save(folder / name)
        yield Entry(name, "ok", "each path has its own result, copies too", size=(64, 64))
    picture.save(folder / "near-duplicate.jpg", quality=90)
    yield Entry("near-duplicate.jpg", "ok", "the same picture, compressed", size=(64, 64))


def _names(folder: Path) -> Iterator[Entry]:
    for number, name in enumerate(AWKWARD_NAMES):
        path = f"{name}.png"
        scene_picture(7 + number).save(folder / path)
        yield Entry(path, "ok", "an awkward name", size=(64, 64))
    for number, parent in enumerate(("left", "right")):
        (folder / parent).mkdir()
        path = f"{parent}/same.png"
        scene_picture(20 + number).save(folder / path)
        yield Entry(path, "ok", "one basename in two folders: keyed by path", size=(64, 64))
