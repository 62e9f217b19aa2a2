"""The zoo: each input is what its entry says, judged by Pillow, the file system and tarfile."""

import json
import os
import tarfile
import warnings
from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageOps

from vlv_core.errors import DataError, UsageError
from vlv_core.pictures import PICTURE_SUFFIXES, open_picture
from vlv_plugins.scenes.zoo.__main__ import main
from vlv_plugins.scenes.zoo.broken import BOMB_SIDE
from vlv_plugins.scenes.zoo.collection import read_zoo, write_zoo
from vlv_plugins.scenes.zoo.readable import AWKWARD_NAMES


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo") / "made"
    write_zoo(folder)
    return folder


def entries(zoo, *, archives: bool = False):
    return [entry for entry in read_zoo(zoo) if (entry.member is not None) == archives]


def test_the_list_holds_every_file_and_nothing_else(zoo):
    found = {
        path.relative_to(zoo).as_posix()
        for path in zoo.rglob("*")
        if path.is_symlink() or path.is_file()
    }
    assert found == {entry.path for entry in read_zoo(zoo)} | {"zoo.json"}


def test_each_input_is_listed_once(zoo):
    listed = Counter((entry.path, entry.member) for entry in read_zoo(zoo))
    assert set(listed.values()) == {1}


def test_every_outcome_occurs_and_has_a_reason(zoo):
    assert {entry.outcome for entry in read_zoo(zoo)} == {"ok", "failed", "skipped"}
    assert all(entry.reason for entry in read_zoo(zoo))
    assert all((entry.size is not None) == (entry.outcome == "ok") for entry in read_zoo(zoo))


def test_the_entries_read_are_those_written(tmp_path):
    written = write_zoo(tmp_path / "zoo")
    assert read_zoo(tmp_path / "zoo") == written


def test_core_finds_what_the_zoo_expects(zoo):
    """The reader that every command uses gives each loose file its outcome and size."""
    for entry in entries(zoo):
        path = zoo / entry.path
        if entry.outcome == "skipped":
            assert path.suffix not in PICTURE_SUFFIXES
        elif entry.outcome == "ok":
            assert open_picture(path).size == entry.size, entry
        else:
            with pytest.raises(DataError, match=r"^cannot read "):
                open_picture(path)


def test_plain_pillow_agrees(zoo):
    for entry in entries(zoo):
        if entry.outcome == "ok":
            with Image.open(zoo / entry.path) as image:
                assert ImageOps.exif_transpose(image).size == entry.size


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("cmyk.jpg", "CMYK"),
        ("sixteen-bit.png", "I;16"),
        ("palette-alpha.png", "P"),
        ("original.png", "RGB"),
    ],
)
def test_pictures_have_the_mode_they_are_there_for(zoo, name, mode):
    with Image.open(zoo / name) as image:
        assert image.mode == mode
        if name == "palette-alpha.png":
            assert "transparency" in image.info


def test_the_wrong_extension_hides_a_png(zoo):
    with Image.open(zoo / "wrong-extension.jpg") as image:
        assert image.format == "PNG"


def test_the_animation_has_different_frames(zoo):
    with Image.open(zoo / "animated.gif") as image:
        assert image.n_frames == 3
        first = np.asarray(image.convert("RGB"))
        image.seek(2)
        assert (np.asarray(image.convert("RGB")) != first).any()


def test_the_turned_picture_lies_in_the_file(zoo):
    with Image.open(zoo / "exif-rotated.jpg") as image:
        assert image.size == (64, 40)
        assert image.getexif()[0x0112] == 6


def test_copies_are_copies(zoo):
    original = (zoo / "original.png").read_bytes()
    assert (zoo / "exact-duplicate.png").read_bytes() == original
    first, near = open_picture(zoo / "original.png"), open_picture(zoo / "near-duplicate.jpg")
    apart = np.abs(np.asarray(first, dtype=float) - np.asarray(near, dtype=float))
    assert 0 < apart.mean() < 5


def test_one_basename_holds_two_pictures(zoo):
    left, right = ((zoo / side / "same.png").read_bytes() for side in ("left", "right"))
    assert left != right


def test_awkward_names_hold_what_breaks_scripts(zoo):
    together = "".join(AWKWARD_NAMES)
    assert all(mark in together for mark in (" ", "'", '"', "\n", "\N{FOX FACE}"))
    assert all((zoo / f"{name}.png").is_file() for name in AWKWARD_NAMES)


def test_the_bomb_is_small_and_refused(zoo):
    path = zoo / "bomb.png"
    assert path.stat().st_size < 1000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Image.DecompressionBombError, match=f"{BOMB_SIDE**2} pixels"):
            Image.open(path)


def test_half_a_jpeg_starts_like_a_whole_one(zoo):
    """Cut among the pixels, not in the header: it opens, and only decoding shows the damage."""
    with Image.open(zoo / "truncated.jpg") as image:
        assert image.size == (256, 256)
        with pytest.raises(OSError, match=r"(?i)truncated"):
            image.load()


def test_broken_files_are_broken_as_they_say(zoo):
    assert (zoo / "zero-bytes.jpg").stat().st_size == 0
    assert (zoo / "page.jpg").read_bytes().startswith(b"<!DOCTYPE html>")
    assert (zoo / "dangling.png").is_symlink()
    assert not (zoo / "dangling.png").exists()


def test_permissions_are_taken_away_and_the_outcome_is_this_user_s(zoo):
    path = zoo / "unreadable.png"
    assert path.stat().st_mode & 0o777 == 0
    (entry,) = (entry for entry in entries(zoo) if entry.path == "unreadable.png")
    assert entry.outcome == ("ok" if os.access(path, os.R_OK) else "failed")
    assert bool(entry.note) == (entry.outcome == "ok")


def members(path) -> list[tuple[str, bytes | None]]:
    """Each member of an archive and its content, None where it cannot be read whole."""
    found: list[tuple[str, bytes | None]] = []
    with tarfile.open(path) as archive:
        try:
            for info in archive:
                stream = archive.extractfile(info)
                assert stream is not None
                found.append((info.name, None))
                found[-1] = (info.name, stream.read())
        except tarfile.ReadError:
            pass
    return found


def test_whole_members_of_archives_are_pictures(zoo, tmp_path):
    for entry in entries(zoo, archives=True):
        content = dict(members(zoo / entry.path)).get(entry.member)
        if entry.outcome == "ok":
            assert content is not None
            assert open_picture(content).size == entry.size


def test_archives_lack_what_they_say(zoo):
    names = [name for name, _ in members(zoo / "missing-member.tar")]
    assert names == ["a.png", "a.txt", "b.txt", "c.png", "c.txt"]
    (first, whole), (second, cut) = members(zoo / "truncated.tar")
    assert (first, second) == ("a.png", "b.png")
    assert whole
    assert cut is None
    assert [name for name, _ in members(zoo / "escape.tar")] == ["a.png", "../../escape.png"]


def test_the_escaping_member_would_leave_the_folder(zoo, tmp_path):
    inner = tmp_path / "one" / "two"
    inner.mkdir(parents=True)
    refused = pytest.raises(tarfile.OutsideDestinationError, match="outside the destination")
    with tarfile.open(zoo / "escape.tar") as archive, refused:
        archive.extractall(inner, filter="data")


def test_archives_are_the_same_bytes_every_time(zoo, tmp_path):
    write_zoo(tmp_path / "again")
    for path in zoo.glob("*.tar"):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_the_zoo_wants_a_folder_of_its_own(tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UsageError, match="is not empty; the zoo needs a folder of its own"):
        write_zoo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_command_counts_outcomes(tmp_path):
    result = CliRunner().invoke(main, [str(tmp_path / "zoo")])
    assert result.exit_code == 0
    listed = json.loads((tmp_path / "zoo" / "zoo.json").read_text(encoding="utf-8"))["entries"]
    counts = Counter(entry["outcome"] for entry in listed)
    assert f"{counts['failed']} failed, {counts['ok']} ok, 1 skipped" in result.output


def test_the_command_reports_a_folder_in_use(tmp_path):
    (tmp_path / "mine.txt").touch()
    result = CliRunner().invoke(main, [str(tmp_path)])
    assert result.exit_code == 2
    assert "is not empty" in result.output
