"""From sources to folders: local, packaged, cached, and what is said when they cannot be had."""

from pathlib import Path

import pytest

from vlv_core.errors import DataError, MissingExtra, ModelError
from vlv_core.hub import fetch, one_file
from vlv_core.specs import Source


def test_a_relative_folder_starts_at_the_root(tmp_path: Path) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    fetched = fetch(Source("owner/name"), root=tmp_path)
    assert fetched.folder == tmp_path / "owner/name" and fetched.revision is None


def test_a_package_is_its_folder() -> None:
    fetched = fetch(Source("package:vlv_core"), root=Path())
    assert (fetched.folder / "hub.py").is_file()


@pytest.mark.parametrize("name", ["nothing_like_it", "nothing.like.it", "vlv_core.hub", ""])
def test_an_absent_package_names_its_extra(name: str) -> None:
    with pytest.raises(MissingExtra, match=f"the package '{name}' is not installed"):
        fetch(Source(f"package:{name}"), root=Path())


@pytest.mark.parametrize("location", ["./nowhere", "/nowhere", "nowhere", "a/b/c"])
def test_what_is_neither_folder_nor_repository_is_refused(location: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no folder here, and no repository id such as"):
        fetch(Source(location), root=tmp_path)


@pytest.mark.parametrize("location", ["owner/na me", "owner/..", "a--b/c", "owner/"])
def test_what_no_repository_can_be_called_is_refused(location: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no folder here, and no repository id: "):
        fetch(Source(location), root=tmp_path, offline=True)


def test_offline_names_repository_files_and_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    source = Source("someone/model", revision="v1", files=("unet/*.safetensors",))
    wanted = r"'someone/model' at 'v1' \(unet/\*\.safetensors\) is not in the local cache, and "
    with pytest.raises(ModelError, match=wanted + "not fetched: random weights"):
        fetch(source, root=tmp_path, offline=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=wanted + "the hub was not reached or HF_HUB_OFFLINE"):
        fetch(source, root=tmp_path)


def test_what_is_cached_is_found_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout of huggingface_hub's cache: refs name the commit, snapshots hold its files."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "snapshots" / commit / "config.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    fetched = fetch(Source("someone/model"), root=tmp_path / "x", offline=True)
    assert fetched.revision == commit
    assert one_file(fetched.folder, "config.json").read_text() == "{}"


@pytest.mark.parametrize("kind", [OSError, RuntimeError])
def test_a_refused_download_says_what_the_hub_said(
    kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of whatever class: a broken connection is no OSError by every transport."""

    def refuse(*args: object, **kwargs: object) -> str:
        raise kind("401 Client Error\nlong story")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(DataError, match=r"could not be fetched: 401 Client Error$"):
        fetch(Source("someone/model"), root=tmp_path)


def test_a_missing_file_says_which_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(ModelError, match=r"has no file 'x' or 'y'; it has a\.txt"):
        one_file(tmp_path, "x", "y")
