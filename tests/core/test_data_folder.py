"""The folder dataset: which files count, in which order, under which keys."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from vlv_core.builtin import FolderConfig
from vlv_core.data.folder import is_picture_name, open_folder, scan
from vlv_core.errors import DataError


def picture(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (value, 0, 0)).save(path, "PNG")


def test_pictures_are_sorted_and_keyed_by_their_path(tmp_path: Path) -> None:
    names = ["b.png", "a/x.jpg", "a/deep/er/x.JPG", "a b/é ü.webp", "a.png", "line\nbreak 'q'.png"]
    for value, name in enumerate(names):
        picture(tmp_path / name, value)
    dataset = open_folder(FolderConfig(path=tmp_path.name), tmp_path.parent)
    assert [dataset[i].key for i in range(len(dataset))] == sorted(names)
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample.load().getpixel((0, 0)) == (names.index(sample.key), 0, 0)
        assert sample.caption is None


def test_other_and_hidden_files_are_counted(tmp_path: Path) -> None:
    for name in ("a.png", ".hidden.png", "._a.png", ".git/b.png"):
        picture(tmp_path / name)
    (tmp_path / "a.txt").write_text("a cat")
    (tmp_path / "no suffix").write_text("")
    dataset = open_folder(FolderConfig(path="."), tmp_path)
    assert dict(dataset.describe()) == {
        "folder": str(tmp_path),
        "pictures": 1,
        "other_files": 4,
        "unreadable_folders": {},
    }


def test_not_recursive(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "below/b.png")
    assert scan(tmp_path, recursive=False).pictures == ["a.png"]
    assert len(open_folder(FolderConfig(path=".", recursive=False), tmp_path)) == 1


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    picture(tmp_path / "data/a.png")
    (tmp_path / "data/again").symlink_to(tmp_path / "data")
    (tmp_path / "data/self.png").symlink_to("self.png")
    (tmp_path / "data/gone.png").symlink_to("nowhere.png")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert scan(tmp_path / "link").pictures == ["a.png", "gone.png", "self.png"]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/set").symlink_to(tmp_path / "data")
    assert "set/a.png" in scan(tmp_path / "elsewhere").pictures


def test_names_of_undecodable_bytes(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.png"
    picture(Path(os.fsdecode(raw)), 5)
    dataset = open_folder(FolderConfig(path="."), tmp_path)
    assert dataset[0].load().getpixel((0, 0)) == (5, 0, 0)


def test_a_folder_that_cannot_be_listed_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "locked/b.png")
    listed = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = scan(tmp_path)
    assert found.pictures == ["a.png"] and found.unreadable == {"locked/": "Permission denied"}


def test_a_directory_with_a_pictures_name(tmp_path: Path) -> None:
    picture(tmp_path / "album.jpg/a.png")
    assert scan(tmp_path).pictures == ["album.jpg/a.png"]


def test_picture_names() -> None:
    assert is_picture_name("a.JPeG") and is_picture_name("a.b.tiff") and is_picture_name("x.heic")
    assert not any(map(is_picture_name, ("a.txt", "png", ".png", "a.jpg.json", "a.jpg.part")))


def test_a_bad_picture_fails_when_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"")
    dataset = open_folder(FolderConfig(path="."), tmp_path)
    with pytest.raises(DataError, match=r"cannot read '.*bad\.jpg': the file is empty"):
        dataset[0].load()


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder '.*nowhere'"):
        open_folder(FolderConfig(path="nowhere"), tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match=r"no pictures in .*, and 1 other files") as caught:
        open_folder(FolderConfig(path="."), tmp_path)
    assert ".jpg" in (caught.value.hint or "")


def test_any_config_with_the_two_fields_will_do(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Mine:
        path: str
        recursive: bool

    picture(tmp_path / "a.png")
    assert len(open_folder(Mine(str(tmp_path), True), Path("unused"))) == 1
