"""The dataset of tar shards: samples, filters, its index, and everything that can be wrong."""

import gzip
import json
import logging
import os
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.shards import plain, png, tar
from vlv_core.builtin import WebdatasetConfig
from vlv_core.config import convert
from vlv_core.data import shard_index
from vlv_core.data.filters import Filters
from vlv_core.data.quarantine import Quarantine, read_batch
from vlv_core.data.shard_index import key_and_ending
from vlv_core.data.webdataset import WebDataset, open_webdataset
from vlv_core.errors import ConfigError, DataError
from vlv_core.plugins import load_plugins
from vlv_core.specs import View, resolve


def opened(root: Path, shards: str = "*.tar", **options: Any) -> WebDataset:
    return open_webdataset(WebdatasetConfig(shards=shards, **options), root)


def reds(dataset: WebDataset) -> list[int]:
    return [dataset[i].load().getpixel((0, 0))[0] for i in range(len(dataset))]


def check_counts(described: Mapping[str, Any]) -> None:
    assert described["found"] == described["pictures"] + sum(described["dropped"].values())


def test_samples_of_shards(tmp_path: Path) -> None:
    tar(tmp_path / "s/00000.tar", plain(3))
    tar(tmp_path / "s/00001.tar", plain(2, start=3))
    dataset = opened(tmp_path, "s/{00000..00001}.tar", caption="txt")
    assert len(dataset) == 5 and reds(dataset) == [0, 1, 2, 3, 4]
    assert dataset[3].key == "00001/000000003" and dataset[3].caption == "words of 3"
    described = dataset.describe()
    assert (described["shards"], described["found"], described["captions"]) == (2, 5, 5)
    assert described["dropped"] == {} and described["damaged_shards"] == 0
    check_counts(described)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_in_every_format(tmp_path: Path, format: int) -> None:
    keys = ["d/" + "n" * 90, "ü 🚪"] if format != tarfile.USTAR_FORMAT else ["d/" + "n" * 90, "u"]
    files = {f"{key}.png": png(n) for n, key in enumerate(keys)}
    dataset = opened(tmp_path, str(tar(tmp_path / "a.tar", files, format=format)))
    assert [dataset[i].key for i in range(2)] == [f"a/{key}" for key in keys]
    assert reds(dataset) == [0, 1]


def test_many_at_once_in_the_order_asked_for(tmp_path: Path) -> None:
    for shard in range(3):
        tar(tmp_path / f"{shard}.tar", plain(4, start=4 * shard))
    dataset = opened(tmp_path, caption="txt")
    asked = [11, 0, 5, 4, 5, 7]
    got = dataset.samples(asked)
    assert [sample.load().getpixel((0, 0))[0] for sample in got] == asked
    assert [s.key for s in got] == [dataset[i].key for i in asked]
    assert dataset.samples([]) == []
    for wrong in (12, -1):
        with pytest.raises(IndexError, match="the dataset has 12 samples"):
            dataset.samples([wrong])


def test_captions_of_stage_1_of_text_and_of_json(tmp_path: Path) -> None:
    files = plain(2)
    files |= {"x.png": png(7), "x.json": {"caption": "  "}, "y.png": png(8), "y.txt": " \n"}
    tar(tmp_path / "a.tar", files)
    assert [opened(tmp_path)[i].caption for i in range(4)] == [None] * 4
    text = opened(tmp_path, caption="txt")
    assert [text[i].caption for i in range(len(text))] == ["words of 0", "words of 1"]
    field = opened(tmp_path, caption="json:caption")
    assert [field[i].caption for i in range(len(field))] == ["more words of 0", "more words of 1"]
    for dataset in (text, field):
        assert dataset.describe()["dropped"] == {"no_caption": 2}
        check_counts(dataset.describe())


@pytest.mark.parametrize("bad", [{"caption": 7}, ["caption"], {"other": "x"}, "{torn"])
def test_json_without_a_caption(tmp_path: Path, bad: Any) -> None:
    content = bad if isinstance(bad, str) else json.dumps(bad)
    tar(tmp_path / "a.tar", {"a.png": png(), "a.json": content, **plain(1)})
    dataset = opened(tmp_path, caption="json:caption", filters=Filters(min_side=10))
    assert dataset.describe()["dropped"] == {"no_caption": 1} and len(dataset) == 1


def test_the_papers_filters(tmp_path: Path) -> None:
    files = plain(13)  # width 500 + n, height 520, watermark n / 10
    tar(tmp_path / "a.tar", {**files, "bare.png": png(99)})
    paper = Filters(min_side=504, min_aspect=0.5, max_aspect=2.0, max_watermark=0.9)
    dataset = opened(tmp_path, filters=paper)
    assert reds(dataset) == [4, 5, 6, 7, 8, 99]
    described = dataset.describe()
    assert described["dropped"] == {"side_too_short": 4, "watermark": 4}
    check_counts(described)
    strict = opened(tmp_path, filters=Filters(max_aspect=0.98, missing="drop"))
    assert strict.describe()["dropped"] == {"aspect": 3, "field_missing": 1}
    renamed = Filters(min_side=504, width="w", height="h", missing="drop")
    with pytest.raises(DataError, match=r"no usable sample.*'field_missing': 14"):
        opened(tmp_path, filters=renamed)


def test_members_that_are_no_samples(tmp_path: Path) -> None:
    files = {
        "a.seg.png": png(1),
        "a.png": png(2),
        "a.jpg": png(3),
        "._a.png": b"note",
        "README": b"x",
        "b.txt": "no picture",
        "sub/../../c.png": png(4),
        "/d.png": png(5),
        **plain(1),
    }
    tar(tmp_path / "a.tar", files)
    dataset = opened(tmp_path)
    # "jpg" stands before "png" among the endings.
    assert reds(dataset) == [3, 0] and dataset[0].key == "a/a"
    described = dataset.describe()
    assert described["dropped"] == {"no_picture": 1, "name_leaves_archive": 2}
    assert described["other_members"] == 2
    check_counts(described)
    assert reds(opened(tmp_path, pictures=("seg.png",))) == [1]


def test_keys_may_return_in_another_shard_but_not_in_the_same(tmp_path: Path) -> None:
    tar(tmp_path / "x/a.tar", {"k.png": png(1), "l.png": png(2), "k.jpg": png(3)})
    tar(tmp_path / "y/a.tar", {"k.png": png(4)})
    dataset = opened(tmp_path, "*/a.tar")
    assert [dataset[i].key for i in range(len(dataset))] == ["x/a/k", "x/a/l", "y/a/k"]
    assert dataset.describe()["dropped"] == {"duplicate_key": 1}


def test_a_truncated_shard_gives_what_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = tar(tmp_path / "a.tar", {**plain(3), "z.png": b"\0" * 5000}).read_bytes()
    tar(tmp_path / "b.tar", plain(1))
    cut = whole.index(b"z.png") + 600
    (tmp_path / "a.tar").write_bytes(whole[:cut])
    with caplog.at_level(logging.WARNING):
        dataset = opened(tmp_path)
    described = dataset.describe()
    assert len(dataset) == 4 and described["dropped"] == {"cut_off": 1}
    assert described["first_damaged_shards"] == {"a": "it ends inside a member"}
    assert "1 damaged shards, the first: a: it ends inside a member" in caplog.text
    check_counts(described)


def test_a_damaged_shard_gives_what_stands_before(tmp_path: Path) -> None:
    whole = bytearray(tar(tmp_path / "a.tar", plain(4)).read_bytes())
    whole[whole.index(b"000000002.png")] ^= 1
    (tmp_path / "a.tar").write_bytes(whole)
    (tmp_path / "b.tar").touch()
    tar(tmp_path / "c.tar", plain(1))
    described = opened(tmp_path).describe()
    assert described["pictures"] == 3 and described["damaged_shards"] == 2
    first = described["first_damaged_shards"]
    assert "bad header" in first["a"] and first["b"] == "the file is empty"


def test_compressed_and_absent_shards_and_nothing_usable(tmp_path: Path) -> None:
    tar(tmp_path / "b.tar", {"readme.txt": "x"})
    with pytest.raises(DataError, match=r"no usable sample in 1 shards.*'no_picture': 1"):
        opened(tmp_path)
    data = (tmp_path / "b.tar").read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(data))
    with pytest.raises(DataError, match=r"a\.tar\.gz' is compressed \(gzip\)") as error:
        opened(tmp_path, "a.tar.gz")
    assert "gunzip it once" in str(error.value.hint)
    with pytest.raises(DataError, match=r"data.shards: no file '2\.tar'"):
        opened(tmp_path, "{2..2}.tar")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"caption": "json"}, "without a field"),
        ({"caption": "txt:words"}, r"data.caption is 'txt:words'"),
        ({"caption": "json:"}, r"data.caption is 'json:'"),
        ({"pictures": ()}, "names no ending"),
    ],
)
def test_options_that_mean_nothing(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    tar(tmp_path / "a.tar", plain(1))
    with pytest.raises(ConfigError, match=message):
        opened(tmp_path, **options)


def scanned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shards that are looked through from now on."""
    names: list[str] = []
    really = shard_index.read_shard

    def spy(path: Path, rules: shard_index.Rules) -> shard_index.Shard:
        names.append(path.name)
        return really(path, rules)

    monkeypatch.setattr(shard_index, "read_shard", spy)
    return names


def test_the_index_is_kept_and_renewed_where_shards_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar(tmp_path / "a.tar", plain(2))
    tar(tmp_path / "b.tar", plain(2, start=2))
    seen = scanned(monkeypatch)
    first = opened(tmp_path, index="cache/i.npz")
    assert sorted(seen) == ["a.tar", "b.tar"] and (tmp_path / "cache/i.npz").is_file()
    again = opened(tmp_path, index="cache/i.npz", filters=Filters(min_side=1))
    assert len(seen) == 2 and again.describe() == first.describe()
    tar(tmp_path / "b.tar", plain(3, start=5))
    changed = opened(tmp_path, index="cache/i.npz")
    assert seen[2:] == ["b.tar"] and reds(changed) == [0, 1, 5, 6, 7]
    # The same size, written later.
    status = (tmp_path / "a.tar").stat()
    os.utime(tmp_path / "a.tar", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    opened(tmp_path, index="cache/i.npz")
    assert seen[3:] == ["a.tar"]
    opened(tmp_path, index="cache/i.npz", caption="txt")
    assert len(seen) == 6, "another choice of members needs another index"


def test_the_index_is_beside_the_recipe_by_default(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", plain(1))
    opened(tmp_path)
    opened(tmp_path, caption="txt")
    assert len(list((tmp_path / ".vlv-index").glob("*.npz"))) == 2


class Bomb:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("unpickled",))


def test_a_foreign_index_is_ignored_and_never_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    tar(tmp_path / "a.tar", plain(1))
    for content in (b"", b"nonsense", pickle.dumps(Bomb())):
        (tmp_path / "i.npz").write_bytes(content)
        assert len(opened(tmp_path, index="i.npz")) == 1
        assert "is not used" in caplog.text
        caplog.clear()
    np.savez(tmp_path / "i.npz", header=np.array([Bomb()], object), records=np.zeros(1))
    assert len(opened(tmp_path, index="i.npz")) == 1
    assert not (tmp_path / "unpickled").exists()


def test_an_index_that_cannot_be_kept_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tar(tmp_path / "a.tar", plain(1))
    (tmp_path / "file").touch()
    assert len(opened(tmp_path, index="file/i.npz")) == 1
    assert "could not be kept" in caplog.text


def test_shards_that_change_or_go_while_in_use_end_in_quarantine(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", plain(2))
    path = tar(tmp_path / "b.tar", plain(2, start=2))
    dataset = opened(tmp_path, caption="txt")
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    whole = path.read_bytes()
    for content, reason in (
        (whole[:700], "is not as it was indexed"),
        (b"x" * len(whole), "bad number"),
        (None, "cannot read"),
    ):
        path.unlink() if content is None else path.write_bytes(content)
        batch = read_batch(dataset, range(4), view=View(size=8), quarantine=quarantine)
        assert batch.rows.tolist() == [0, 1]
        with pytest.raises(DataError, match=reason):
            dataset[3].load()
    assert set(quarantine.reasons) == {"b/@0", f"b/@{dataset._starts[3]}"}


def test_a_picture_that_is_none_ends_in_quarantine(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", {"a.png": b"<html>", **plain(1)})
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    batch = read_batch(opened(tmp_path), [0, 1], view=View(size=8), quarantine=quarantine)
    assert batch.keys == ("a/000000000",)
    assert "web page" in quarantine.reasons["a/a"]


def test_state_is_a_few_bytes_a_sample(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", {f"{n}.png": b"" for n in range(500)})
    dataset = opened(tmp_path)
    held = [value for value in vars(dataset).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in held) <= 12 * len(dataset) + 100
    assert all(array.base is None or array.base.nbytes <= 12 * 500 for array in held)
    assert not [v for v in vars(dataset).values() if isinstance(v, list) and len(v) > 1]


@pytest.mark.parametrize(
    ("name", "key", "ending"),
    [("a.jpg", "a", "jpg"), ("d.e/a.B.JPG", "d.e/a", "b.jpg"), ("./x/a", "x/a", "")],
)
def test_keys_and_endings(name: str, key: str, ending: str) -> None:
    assert key_and_ending(name) == (key, ending)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcde"), st.sampled_from(["png", "txt", "json", "cls", ""])),
        max_size=14,
    )
)
def test_whatever_the_members_the_counts_add_up(
    tmp_path_factory: pytest.TempPathFactory, found: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    files = {f"{key}.{ending}".rstrip("."): png() for key, ending in found}
    tar(folder / "a.tar", {**files, **plain(1)})
    dataset = opened(folder)
    check_counts(dataset.describe())
    keys = [dataset[i].key for i in range(len(dataset))]
    assert len(set(keys)) == len(keys) and all(dataset[i].load() for i in range(len(keys)))


def test_it_is_a_dataset_of_recipes(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", plain(1))
    spec = load_plugins(third_party=False).get("dataset", "webdataset").spec
    table = {"shards": "*.tar", "pictures": ["png"], "filters": {"min_side": 100}}
    config = convert(spec.config, table, "data")
    assert len(resolve(spec.open)(config, tmp_path)) == 1
