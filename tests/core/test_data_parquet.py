"""The dataset of Parquet files: columns, filters, paths that leave the folder, damage."""

import logging
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tests.core.shards import png
from vlv_core.builtin import ParquetConfig
from vlv_core.config import convert
from vlv_core.data.filters import Filters
from vlv_core.data.parquet import ParquetDataset, open_parquet
from vlv_core.data.quarantine import Quarantine, read_batch
from vlv_core.errors import ConfigError, DataError, MissingExtra
from vlv_core.plugins import load_plugins
from vlv_core.specs import View, resolve


def written(path: Path, rows: int = 10, *, group: int = 4, **columns: Any) -> Path:
    """A file whose pictures' red values are their rows."""
    table: dict[str, Any] = {
        "image": [png(row) for row in range(rows)],
        "text": [f" words of {row}" for row in range(rows)],
        **columns,
    }
    table = {name: values for name, values in table.items() if values is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(table), path, row_group_size=group)
    return path


def opened(root: Path, files: str = "*.parquet", **options: Any) -> ParquetDataset:
    options = options if "path" in options else {"image": "image", **options}
    return open_parquet(ParquetConfig(files=files, **options), root)


def reds(dataset: ParquetDataset) -> list[int]:
    samples = dataset.samples(range(len(dataset)))
    return [sample.load().getpixel((0, 0))[0] for sample in samples]


def check_counts(described: Mapping[str, Any]) -> None:
    assert described["found"] == described["pictures"] + sum(described["dropped"].values())


def test_rows_are_samples(tmp_path: Path) -> None:
    written(tmp_path / "d/0.parquet", 10)
    written(tmp_path / "d/1.parquet", 3)
    dataset = opened(tmp_path, "d/{0..1}.parquet", caption="text")
    assert reds(dataset) == [*range(10), 0, 1, 2]
    assert dataset[11].key == "1.parquet:1" and dataset[11].caption == "words of 1"
    assert len({dataset[i].key for i in range(13)}) == 13
    described = dataset.describe()
    assert (described["files"], described["row_groups"], described["found"]) == (2, 4, 13)
    assert described["captions"] == 13 and described["largest_row_group_mb"] >= 0
    assert opened(tmp_path, "d/*.parquet")[0].caption is None


@pytest.mark.parametrize("cache_mb", [0, 512])
def test_many_at_once_in_the_order_asked_for(tmp_path: Path, cache_mb: int) -> None:
    written(tmp_path / "a.parquet", 20)
    dataset = opened(tmp_path, cache_mb=cache_mb)
    asked = [19, 0, 7, 7, 12, 3]
    assert [s.load().getpixel((0, 0))[0] for s in dataset.samples(asked)] == asked
    assert len(dataset._cache) == (1 if cache_mb == 0 else 4)
    assert dataset.samples([]) == []
    for wrong in (20, -1):
        with pytest.raises(IndexError, match="the dataset has 20 samples"):
            dataset.samples([wrong])


def test_row_groups_are_read_once_while_they_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "a.parquet", 8)
    dataset = opened(tmp_path)
    read: list[int] = []
    really = parquet.ParquetFile.read_row_group

    def spy(self: Any, number: int, **options: Any) -> Any:
        read.append(number)
        return really(self, number, **options)

    monkeypatch.setattr(parquet.ParquetFile, "read_row_group", spy)
    dataset.samples([0, 5, 1, 6])
    dataset.samples([2, 7])
    assert read == [0, 1]


def test_structures_of_bytes_and_path(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/7.png").write_bytes(png(7))
    rows = [
        {"bytes": png(3), "path": "3.png"},
        {"bytes": None, "path": "7.png"},
        {"bytes": None, "path": None},
        None,
    ]
    written(tmp_path / "a.parquet", 4, image=rows)
    dataset = opened(tmp_path, folder="pictures")
    first, second, *rest = dataset.samples(range(4))
    assert first.load().getpixel((0, 0))[0] == 3 and second.load().getpixel((0, 0))[0] == 7
    for sample in rest:
        with pytest.raises(DataError, match="the row has no picture"):
            sample.load()


def test_paths_stay_in_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for place in (folder / "a.png", folder / "sub/b.png", tmp_path / "out.png"):
        place.write_bytes(png(5))
    (folder / "link.png").symlink_to(tmp_path / "out.png")
    bad = ["../out.png", str(tmp_path / "out.png"), "sub/../../out.png", "link.png"]
    bad += ["..\\out.png", "C:\\out.png", "\\out.png"]
    names = ["a.png", "sub/b.png", *bad]
    written(tmp_path / "a.parquet", len(names), image=None, name=names)
    dataset = opened(tmp_path, path="name", folder="in")
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    asked = range(len(names))
    batch = read_batch(dataset, asked, view=View(size=8), quarantine=quarantine)
    assert batch.keys == ("a.parquet:0", "a.parquet:1") and len(quarantine) == len(bad)
    assert all("leads out of" in reason for reason in quarantine.reasons.values())


def test_the_papers_filters(tmp_path: Path) -> None:
    sizes = [400, 512, 600, 1300, None, 700, 800, 900, 256, 1024]
    columns: dict[str, Any] = {
        "original_width": sizes,
        "original_height": [512] * 10,
        "pwatermark": [0.1, 0.1, 0.5, 0.1, 0.1, 0.9, None, 0.2, 0.1, 0.49],
    }
    written(tmp_path / "a.parquet", 10, **columns)
    paper = Filters(min_side=512, min_aspect=0.5, max_aspect=2.0, max_watermark=0.5)
    dataset = opened(tmp_path, filters=paper)
    assert reds(dataset) == [1, 4, 6, 7, 9]
    assert dataset[2].key == "a.parquet:6"
    described = dataset.describe()
    assert described["dropped"] == {"side_too_short": 2, "aspect": 1, "watermark": 2}
    check_counts(described)
    strict = opened(tmp_path, filters=Filters(min_side=1, max_watermark=2.0, missing="drop"))
    assert strict.describe()["dropped"] == {"field_missing": 2}


def test_filter_columns_that_are_absent_or_no_numbers(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", 3, original_width=["9", "wide", "700"], pwatermark=[[1]] * 3)
    filters = Filters(min_side=512, max_watermark=0.5)
    assert len(opened(tmp_path, filters=filters)) == 3
    with pytest.raises(DataError, match=r"no usable row in 1 files.*'field_missing': 3"):
        opened(tmp_path, filters=Filters(min_side=512, missing="drop"))


def test_rows_without_words_are_left_out(tmp_path: Path) -> None:
    words = ["a", None, " \n", "b ", ""]
    written(tmp_path / "a.parquet", 5, text=words)
    dataset = opened(tmp_path, caption="text")
    assert [s.caption for s in dataset.samples(range(2))] == ["a", "b"] and reds(dataset) == [0, 3]
    assert dataset.describe()["dropped"] == {"no_caption": 3}
    check_counts(dataset.describe())
    written(tmp_path / "a.parquet", 2, text=pa.array(["x", "y"]).dictionary_encode())
    assert opened(tmp_path, caption="text")[1].caption == "y"
    written(tmp_path / "a.parquet", 2, text=[1, 2])
    with pytest.raises(DataError, match="the column 'text' holds int64, not text"):
        opened(tmp_path, caption="text")


def test_a_damaged_file_is_named_and_the_others_are_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path / "a.parquet", 3)
    (tmp_path / "b.parquet").write_bytes(b"PAR1 torn")
    (tmp_path / "c.parquet").touch()
    with caplog.at_level(logging.WARNING):
        dataset = opened(tmp_path)
    described = dataset.describe()
    assert len(dataset) == 3 and described["damaged_files"] == 2
    assert set(described["first_damaged_files"]) == {"b.parquet", "c.parquet"}
    assert "2 damaged files, the first: b.parquet" in caplog.text
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(DataError, match=r"no usable row in 2 files, such as '.*b\.parquet'"):
        opened(tmp_path)


def test_a_file_that_goes_while_in_use_ends_in_quarantine(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", 6)
    dataset = opened(tmp_path, caption="text")
    shorter = written(tmp_path / "b/b.parquet", 2).read_bytes()
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    for content in (b"torn", shorter, None):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        batch = read_batch(dataset, [5], view=View(size=8), quarantine=quarantine)
        assert len(batch.rows) == 0
        with pytest.raises(DataError, match="cannot read"):
            dataset[5].load()
    assert set(quarantine.reasons) == {"a.parquet:5"}


def test_columns_are_named_when_they_are_not_there(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", 1)
    known = r"did you mean 'image'\?; it has image, text"
    with pytest.raises(DataError, match=rf"has no column 'imag'; {known}"):
        opened(tmp_path, image="imag")
    with pytest.raises(DataError, match="has no column 'words'"):
        opened(tmp_path, caption="words")
    with pytest.raises(DataError, match=r"no folder '.*gone'"):
        opened(tmp_path, folder="gone")
    for image, path in (("", ""), ("image", "text")):
        with pytest.raises(ConfigError, match="name one of the two columns"):
            opened(tmp_path, image=image, path=path)


def test_without_pyarrow_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "a.parquet", 1)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match="pyarrow is not installed") as error:
        opened(tmp_path)
    assert "vlv[models]" in str(error.value.hint)


def test_threads_may_share_it(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", 40)
    dataset = opened(tmp_path, cache_mb=0)
    wrong: list[int] = []

    def read(seed: int) -> None:
        order = np.random.Generator(np.random.Philox(seed)).permutation(40).tolist()
        got = [s.load().getpixel((0, 0))[0] for s in dataset.samples(order)]
        wrong.extend(a for a, b in zip(got, order, strict=True) if a != b)

    threads = [Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.sampled_from([None, 100, 600]), min_size=1, max_size=12),
    st.integers(1, 5),
    st.sampled_from(["keep", "drop"]),
)
def test_whatever_is_dropped_the_others_keep_their_rows(
    tmp_path_factory: pytest.TempPathFactory, sides: list[int | None], group: int, missing: Any
) -> None:
    folder = tmp_path_factory.mktemp("files")
    sides = [*sides, 600]
    column = pa.array(sides, pa.int32())
    written(folder / "a.parquet", len(sides), group=group, w=column, h=column)
    filters = Filters(min_side=512, width="w", height="h", missing=missing)
    dataset = opened(folder, filters=filters)
    due = [i for i, s in enumerate(sides) if s == 600 or (s is None and missing == "keep")]
    assert reds(dataset) == due
    assert [dataset[i].key for i in range(len(due))] == [f"a.parquet:{row}" for row in due]
    check_counts(dataset.describe())


def test_it_is_a_dataset_of_recipes(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", 2)
    spec = load_plugins(third_party=False).get("dataset", "parquet").spec
    table = {"files": "*.parquet", "image": "image", "filters": {"missing": "drop"}}
    assert len(resolve(spec.open)(convert(spec.config, table, "data"), tmp_path)) == 2
