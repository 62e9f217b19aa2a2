"""Arguments to inputs: which files count, how they are keyed, and what archives cannot do."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from tests.core.fake_captioner import png, put
from vlv_core.errors import DataError, UsageError
from vlv_core.jobs import Input, find_inputs, inputs
from vlv_core.jobs.archives import is_archive
from vlv_core.jobs.inputs import key_of


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def keys(*arguments: str, stdin: bytes | None = None) -> list[str]:
    stream = None if stdin is None else io.BytesIO(stdin)
    return [entry.key for entry in find_inputs(arguments, stdin=stream).inputs]


def tar(path: Path, members: dict[str, bytes | None], **options: object) -> Path:
    """Write an archive; None makes a link to a.png."""
    with tarfile.open(path, "w", **options) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            if data is None:
                info.type, info.linkname = tarfile.SYMTYPE, "a.png"
            info.size = len(data or b"")
            archive.addfile(info, io.BytesIO(data or b""))
    return path


def failures(*arguments: str) -> dict[str, str]:
    found = {}
    for entry in find_inputs(arguments).inputs:
        try:
            entry.read()
        except DataError as error:
            found[entry.key] = error.message
    return found


# keys


def test_keys_are_paths_from_here_or_absolute_ones(here: Path, tmp_path: Path) -> None:
    assert key_of("a.png") == key_of("./b/../a.png") == key_of(here / "a.png") == "a.png"
    assert key_of("../a.png") == (tmp_path / "a.png").as_posix()
    assert key_of(".") == "."


def test_one_file_by_several_ways_is_one_input(here: Path) -> None:
    put(here, "pics/a.png", "pics/b.png")
    assert keys("pics/b.png", str(here / "pics/b.png"), "pics", "pics/*.png", "./pics/../pics") == [
        "pics/b.png",
        "pics/a.png",
    ]


def test_equal_names_in_two_folders_and_links_are_two_inputs(here: Path) -> None:
    put(here, "x/same.png", "y/same.png")
    (here / "link.png").symlink_to("x/same.png")
    assert keys("x", "y", "link.png") == ["x/same.png", "y/same.png", "link.png"]


# files, folders, patterns


def test_a_folder_gives_its_pictures_in_order_and_counts_the_rest(here: Path) -> None:
    put(here, "b.png", "sub/a.JPG", "a b.png", "é 🦊.png", "line\nbreak.png", "q'\".png")
    (here / "notes.txt").write_text("")
    (here / ".hidden.png").write_bytes(png(0))
    found = find_inputs(["."])
    names = ["a b.png", "b.png", "line\nbreak.png", "q'\".png", "sub/a.JPG", "é 🦊.png"]
    assert [entry.key for entry in found.inputs] == names and found.ignored == 2
    assert all(entry.read() for entry in found.inputs)


def test_a_folder_elsewhere_has_absolute_keys(tmp_path: Path) -> None:
    (path,) = put(tmp_path, "there/a.png")
    assert keys("../there") == [path.as_posix()]


def test_a_named_file_counts_whatever_its_ending(here: Path) -> None:
    put(here, "picture")
    assert keys("picture") == ["picture"]


def test_patterns(here: Path) -> None:
    put(here, "a.png", "sub/b.png", "sub/deep/c.png")
    (here / "a.txt").write_text("")
    assert keys("*.png") == ["a.png"]
    assert keys("**/*.png") == ["a.png", "sub/b.png", "sub/deep/c.png"]
    found = find_inputs(["a*"])
    assert [entry.key for entry in found.inputs] == ["a.png"] and found.ignored == 1


def test_names_that_look_like_something_else(here: Path) -> None:
    put(here, "a[1].png", "a1.png", "@list", "*.png")
    assert keys("a[1].png", "@list", "*.png") == ["a[1].png", "@list", "*.png"]


def test_lists(here: Path) -> None:
    put(here, "a.png", "b c.png", "sub/d.png", "new\nline.png")
    (here / "list.txt").write_bytes(b"a.png\r\n\n  \nb c.png\nsub\ngone.png\n")
    assert keys("@list.txt") == ["a.png", "b c.png", "sub/d.png", "gone.png"]
    assert failures("@list.txt") == {"gone.png": "no such file"}
    assert keys("-", stdin=b"new\nline.png\0a.png\0") == ["new\nline.png", "a.png"]


def test_arguments_that_name_nothing(here: Path) -> None:
    for argument in ("gone.png", "*.png", "@gone.txt", "-"):
        with pytest.raises(UsageError, match="is no file, folder, list or pattern that matches"):
            find_inputs([argument])
    (here / "notes.txt").write_text("")
    with pytest.raises(UsageError, match="no pictures found, and 1 other files") as caught:
        find_inputs(["."])
    assert "tar archives" in (caught.value.hint or "")


def test_a_folder_that_cannot_be_listed_fails_by_name(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(here, "a.png", "locked/b.png")
    listed = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert failures(".") == {"locked": "cannot list this folder: Permission denied"}


# reading


def test_reading_what_is_no_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "dangling.png").symlink_to("gone")
    os.mkfifo(here / "pipe.png")
    (here / "folder.png").mkdir()
    assert failures("dangling.png", "pipe.png") == {
        "dangling.png": "No such file or directory",
        "pipe.png": "not a file",
    }
    with pytest.raises(DataError, match="not a file"):
        Input("folder.png", "folder.png").read()
    monkeypatch.setattr(inputs, "MAX_BYTES", 10)
    put(here, "big.png")
    with pytest.raises(DataError, match="bytes are too many for a picture, the limit is 10"):
        Input("big.png", "big.png").read()


# archives


def test_members_are_read_in_place(here: Path) -> None:
    tar(here / "s.tar", {"a.png": png(1), "a.txt": b"x", "./sub/b.png": png(2), "r.md": b""})
    found = find_inputs(["s.tar"])
    assert [entry.key for entry in found.inputs] == ["s.tar/a.png", "s.tar/sub/b.png"]
    assert [entry.read() for entry in found.inputs] == [png(1), png(2)] and found.ignored == 2
    assert [path.name for path in here.iterdir()] == ["s.tar"]


def test_members_of_every_tar_format(here: Path) -> None:
    name = "d" * 90 + "/" + "é" * 45 + ".png"
    for number, kind in enumerate((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        tar(here / f"{number}.tar", {"a.png": png(0), name: png(1)}, format=kind)
    found = find_inputs(["*.tar"])
    assert [entry.key for entry in found.inputs[1::2]] == [f"{n}.tar/{name}" for n in range(3)]
    assert [entry.read() for entry in found.inputs] == [png(0), png(1)] * 3


def test_names_that_leave_the_archive_fail(here: Path) -> None:
    names = ["../../escape.png", "/etc/passwd.png", "ok/../../x.png"]
    tar(here / "s.tar", {"a.png": png(1), **{name: png(2) for name in names}})
    failed = failures("s.tar")
    assert set(failed.values()) == {"its name leaves the archive"} and len(failed) == 3
    assert "s.tar/../../escape.png" in failed


def test_links_in_archives_are_not_followed(here: Path) -> None:
    tar(here / "s.tar", {"a.png": png(1), "link.png": None})
    assert failures("s.tar") == {"s.tar/link.png": "a link or a sparse file, not a plain member"}


def test_a_caption_without_its_picture_fails_if_others_have_theirs(here: Path) -> None:
    tar(here / "s.tar", {"a.png": png(1), "a.txt": b"", "b.txt": b"", "README.md": b""})
    assert failures("s.tar") == {"s.tar/b.txt": "it has no picture beside it"}
    assert find_inputs(["s.tar"]).ignored == 2


@pytest.mark.parametrize("cut", range(3))
def test_a_truncated_archive_keeps_what_came_before(cut: int, here: Path) -> None:
    whole = tar(here / "w.tar", {f"{n}.png": png(n) * 9 for n in range(4)}).read_bytes()
    length = 512 + len(png(0) * 9) + -len(png(0) * 9) % 512
    # inside the third picture; inside its header; inside the padding after the second
    ends = (2 * length + 700, 2 * length + 100, 2 * length - 1)
    (here / "s.tar").write_bytes(whole[: ends[cut]])
    reasons = (
        {"s.tar/2.png": "the archive ends inside it"},
        {"s.tar": "not a plain tar archive, or damaged after 2: bad header"},
        {"s.tar": "not a plain tar archive, or damaged after 2: unexpected end of data"},
    )
    assert failures("s.tar") == reasons[cut]
    assert find_inputs(["s.tar"]).inputs[1].read() == png(1) * 9


def test_damage_in_the_middle_of_an_archive_is_not_the_end(here: Path) -> None:
    data = bytearray(tar(here / "s.tar", {f"{n}.png": png(n) for n in range(4)}).read_bytes())
    data[2048:2148] = b"?" * 100
    (here / "s.tar").write_bytes(data)
    assert failures("s.tar") == {"s.tar": "not a plain tar archive, or damaged after 2: bad header"}


def test_what_is_called_an_archive_and_is_none(here: Path) -> None:
    (here / "page.tar").write_bytes(b"<html>" * 200)
    (here / "empty.tar").write_bytes(b"")
    tar(here / "packed.tar", {"a.png": png(1)})
    with tarfile.open(here / "p.tar.gz", "w:gz") as archive:
        archive.add(here / "packed.tar", "a.png")
    (here / "gone.tar").symlink_to("nowhere")
    failed = failures("page.tar", "empty.tar", "p.tar.gz", "gone.tar")
    assert list(failed) == ["page.tar", "empty.tar", "p.tar.gz", "gone.tar"]
    assert failed["p.tar.gz"].startswith("not a plain tar archive")
    assert failed["gone.tar"] == "not a file"


def test_names_of_archives() -> None:
    assert all(map(is_archive, ("a.tar", "A.TAR", "x/a.tar.gz", "a.tgz", "0.1.tar")))
    assert not any(map(is_archive, ("tar", "a.tar.gz.png", "tarts.png", "a.zip")))
