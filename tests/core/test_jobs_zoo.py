"""The permanent zoo of awkward inputs: each comes to the end that it is listed with."""

import json
import os
from pathlib import Path

import pytest

from tests.core.fake_captioner import FakeCaptioner
from vlv_core.errors import DataError
from vlv_core.jobs import JobOptions, caption_job, find_inputs
from vlv_core.preprocess import open_picture
from vlv_plugins.scenes.zoo.collection import write_zoo
from vlv_plugins.scenes.zoo.entry import Entry


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Entry]]:
    folder = tmp_path_factory.mktemp("zoo") / "zoo"
    return folder, write_zoo(folder)


def key(folder: Path, entry: Entry) -> str:
    """The row that tells of an entry."""
    path = f"{folder}/{entry.path}"
    if entry.member is None:
        return path
    # The picture that is missing has no name; its caption has.
    return f"{path}/{entry.member}".replace("missing-member.tar/b.png", "missing-member.tar/b.txt")


def test_every_entry_has_its_outcome_and_the_counts_add_up(
    zoo: tuple[Path, list[Entry]], tmp_path: Path
) -> None:
    folder, entries = zoo
    found = find_inputs([str(folder), *sorted(map(str, folder.glob("*.tar")))])
    out = tmp_path / "out.jsonl"
    counts = caption_job(FakeCaptioner(), found.inputs, out=out, job=JobOptions(batch=4))
    assert counts.total == counts.ok + counts.failed == len(found.inputs)
    rows = [json.loads(line) for line in out.read_bytes().splitlines()]
    expected = {key(folder, entry): entry.outcome for entry in entries}
    skipped = {path for path, outcome in expected.items() if outcome == "skipped"}
    assert {row["path"]: row["status"] for row in rows} == {
        path: outcome for path, outcome in expected.items() if path not in skipped
    }
    # Folders: the skipped, zoo.json and three archives; archives: captions beside their pictures.
    assert found.ignored == len(skipped) + 1 + 3 + 2
    assert all(row["error"] and "\n" not in row["error"] for row in rows if row["status"] != "ok")
    again = caption_job(FakeCaptioner(), found.inputs, out=out)
    assert again.skipped == again.total == len(rows)


def test_copies_have_the_same_words_and_the_same_hash(
    zoo: tuple[Path, list[Entry]], tmp_path: Path
) -> None:
    folder, _ = zoo
    paths = [str(folder / name) for name in ("original.png", "exact-duplicate.png")]
    out = tmp_path / "out.jsonl"
    caption_job(FakeCaptioner(), find_inputs(paths).inputs, out=out)
    first, second = (json.loads(line) for line in out.read_bytes().splitlines())
    assert first["caption"] == second["caption"] and first["sha256"] == second["sha256"]
    assert [first["path"], second["path"]] == paths


def test_pictures_open_upright_or_not_at_all(zoo: tuple[Path, list[Entry]]) -> None:
    folder, entries = zoo
    for entry in entries:
        path = folder / entry.path
        if entry.member is not None or entry.outcome == "skipped":
            continue
        if entry.outcome == "ok":
            assert open_picture(path).size == entry.size, entry
        elif os.path.lexists(path):
            with pytest.raises(DataError, match=r"cannot read '.*': "):
                open_picture(path)
