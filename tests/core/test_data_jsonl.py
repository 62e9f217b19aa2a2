"""The JSON Lines dataset: rows, captions, bad rows by line number, and where paths start."""

import json
import logging
from pathlib import Path

import pytest
from PIL import Image

from tests.core.fake_captioner import FakeCaptioner, put, said_of
from vlv_core.builtin import JsonlConfig
from vlv_core.data.jsonl import JsonlDataset, open_jsonl
from vlv_core.errors import DataError
from vlv_core.jobs import caption_job, find_inputs


def picture(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (value, 0, 0)).save(path, "PNG")


def written(folder: Path, *rows: object, name: str = "rows.jsonl") -> JsonlDataset:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return open_jsonl(JsonlConfig(path=name), folder)


def test_rows_become_samples(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    picture(tmp_path / "sub/ü.png", 2)
    rows = [
        {"path": "a.png", "caption": "a cat"},
        {"path": "sub/ü.png", "caption": "eine Tür 🚪\nzwei", "extra": [1]},
        {"path": "a.png", "caption": "another caption of it"},
        {"path": "a.png"},
    ]
    dataset = written(tmp_path, *rows)
    samples = [dataset[i] for i in range(len(dataset))]
    assert [sample.caption for sample in samples] == [row.get("caption") for row in rows]
    assert [sample.load().getpixel((0, 0))[0] for sample in samples] == [1, 2, 1, 1]
    assert [sample.key for sample in samples] == ["1:a.png", "2:sub/ü.png", "3:a.png", "4:a.png"]


def test_bad_rows_are_left_out_with_their_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        dataset = written(
            tmp_path,
            {"path": "a.png", "caption": "good"},
            "",
            "{broken",
            ["a.png", "cat"],
            {"caption": "no path"},
            {"path": 7, "caption": "x"},
            {"path": "a.png", "caption": 7},
            {"path": "a.png", "caption": "  "},
            {"path": "a.png", "status": "failed", "caption": None},
            {"path": "b.png", "status": "ok", "caption": "good too"},
        )
    assert [dataset[i].key for i in range(len(dataset))] == ["1:a.png", "10:b.png"]
    assert dataset.bad_rows == 7 and len(dataset.bad) == 7
    assert dataset.bad[0].startswith("line 3: not JSON")
    assert dataset.bad[1:] == [
        "line 4: not an object with 'path' and 'caption'",
        "line 5: 'path' is missing or not text",
        "line 6: 'path' is missing or not text",
        "line 7: 'caption' is empty or not text",
        "line 8: 'caption' is empty or not text",
        "line 9: 'status' is 'failed'",
    ]
    assert "7 bad rows, the first: line 3" in caplog.text


def test_bytes_that_are_no_utf8_and_a_byte_order_mark(tmp_path: Path) -> None:
    good = json.dumps({"path": "a.png", "caption": "x"}).encode()
    (tmp_path / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + good + b'\r\n{"path": "\xff"}\n' + good)
    dataset = open_jsonl(JsonlConfig(path="rows.jsonl"), tmp_path)
    assert len(dataset) == 2 and "line 2: not JSON in UTF-8" in dataset.bad[0]
    assert dataset[1].key == "3:a.png"


def test_only_the_first_bad_rows_are_kept(tmp_path: Path) -> None:
    dataset = written(tmp_path, {"path": "a.png", "caption": "x"}, *["oops"] * 50)
    assert dataset.bad_rows == 50 and len(dataset.bad) == 20


def test_description_for_a_dry_run(tmp_path: Path) -> None:
    picture(tmp_path / "data/a.png")
    picture(tmp_path / "outside.png")
    (tmp_path / "data").mkdir(exist_ok=True)
    dataset = written(
        tmp_path / "data",
        {"path": "a.png", "caption": "x"},
        {"path": "gone.png"},
        {"path": "../outside.png", "caption": "x"},
        {"path": str(tmp_path / "outside.png"), "caption": "x"},
        "oops",
    )
    described = dataset.describe()
    assert described["pictures"] == 4 and described["captions"] == 3
    assert described["missing"] == 1 and described["bad_rows"] == 1
    assert described["absolute_paths"] == 1 and described["paths_that_leave_the_folder"] == 1
    assert described["first_bad_rows"][0].startswith("line 5")


def test_the_output_of_a_job_is_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "p/0.png", "p/1.png", "p/2.png")
    (tmp_path / "p/1.png").write_bytes(b"")
    caption_job(FakeCaptioner(), find_inputs(["p"]).inputs, out=Path("out.jsonl"))
    dataset = open_jsonl(JsonlConfig(path="out.jsonl"), tmp_path)
    assert [dataset[i].caption for i in range(len(dataset))] == [said_of(0), said_of(2)]
    assert dataset.bad == ["line 2: 'status' is 'failed'"] and dataset[1].load().size == (9, 9)


def test_images_elsewhere(tmp_path: Path) -> None:
    picture(tmp_path / "pictures/a.png", 9)
    (tmp_path / "rows.jsonl").write_text('{"path": "a.png", "caption": "x"}\n')
    config = JsonlConfig(path="rows.jsonl", images="pictures")
    assert open_jsonl(config, tmp_path)[0].load().getpixel((0, 0)) == (9, 0, 0)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file '.*rows\.jsonl'"):
        open_jsonl(JsonlConfig(path="rows.jsonl"), tmp_path)
    with pytest.raises(DataError, match=r"no usable row in .*: it is empty"):
        written(tmp_path)
    with pytest.raises(
        DataError, match=r"no usable row in .*: line 1: 'path' is missing"
    ) as caught:
        written(tmp_path, {"file": "a.png"})
    assert caught.value.hint == 'a row is {"path": "a.jpg", "caption": "a cat"}'
    with pytest.raises(DataError, match=r"no folder '.*nowhere'"):
        open_jsonl(JsonlConfig(path="rows.jsonl", images="nowhere"), tmp_path)


def test_a_file_that_changes_in_use(tmp_path: Path) -> None:
    dataset = written(tmp_path, {"path": "a.png"}, {"path": "b.png"})
    (tmp_path / "rows.jsonl").write_text("{}")
    with pytest.raises(DataError, match="was changed while it was in use"):
        dataset[1]


def test_a_missing_picture_fails_when_it_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read '.*gone\.png': No such file"):
        written(tmp_path, {"path": "gone.png"})[0].load()
