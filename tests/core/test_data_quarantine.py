"""Unreadable training pictures: recorded once, counted, and nobody else moves."""

import json
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlv_core.data.folder import FolderDataset, scan
from vlv_core.data.order import indices
from vlv_core.data.quarantine import Quarantine, read_batch
from vlv_core.errors import DataError
from vlv_core.protocols import Sample
from vlv_core.specs import View

VIEW = View(size=4)


@pytest.fixture
def dataset(tmp_path: Path) -> FolderDataset:
    """Twelve pictures whose red value is their number; 3 and 7 are unreadable."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(12):
        Image.new("RGB", (5, 4), (number, 0, 0)).save(folder / f"{number:02}.png")
    (folder / "03.png").write_bytes(b"")
    (folder / "07.png").write_bytes(b"<html>")
    return FolderDataset(folder, scan(folder))


class Broken:
    """A dataset whose every picture raises an error of its own."""

    def __len__(self) -> int:
        return 10**6

    def __getitem__(self, index: int) -> Sample:
        def load() -> Image.Image:
            raise ZeroDivisionError("line one\nline two")

        return Sample(key=f"k{index}", load=load)

    def describe(self) -> Mapping[str, Any]:
        return {}


def test_a_batch_shrinks_and_the_others_keep_their_places(
    dataset: FolderDataset, tmp_path: Path
) -> None:
    quarantine = Quarantine(tmp_path / "run/quarantine.jsonl")
    batch = read_batch(dataset, [2, 3, 4, 7, 1], view=VIEW, quarantine=quarantine)
    assert batch.rows.tolist() == [0, 2, 4]
    assert batch.keys == ("02.png", "04.png", "01.png")
    assert batch.views.shape == (3, 4, 4, 3) and batch.views.dtype == np.uint8
    assert batch.views[:, 0, 0, 0].tolist() == [2, 4, 1]
    assert batch.captions == (None, None, None)
    assert len(quarantine) == 2 and "web page" in quarantine.reasons["07.png"]


def test_recorded_once_over_epochs_and_restarts(dataset: FolderDataset, tmp_path: Path) -> None:
    path = tmp_path / "quarantine.jsonl"
    for _ in range(2):
        quarantine = Quarantine(path)
        for _ in range(3):
            read_batch(dataset, range(12), view=VIEW, quarantine=quarantine)
        assert len(quarantine) == 2
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["key"] for row in rows] == ["03.png", "07.png"]
    assert all("\n" not in row["reason"] for row in rows)


def test_resuming_anywhere_gives_the_same_batches(dataset: FolderDataset, tmp_path: Path) -> None:
    def run(first: int, path: Path) -> list[list[int]]:
        quarantine = Quarantine(path)
        steps = [indices(1, 12, step * 5, 5) for step in range(first, 9)]
        batches = [read_batch(dataset, step, view=VIEW, quarantine=quarantine) for step in steps]
        return [batch.views[:, 0, 0, 0].tolist() for batch in batches]

    whole = run(0, tmp_path / "one.jsonl")
    for first in range(9):
        assert run(first, tmp_path / "two.jsonl") == whole[first:]
    # 45 samples are 3 epochs and 9 more; each whole epoch misses exactly the two bad ones.
    flat = [number for batch in whole for number in batch]
    assert all(flat.count(number) in (3, 4) for number in range(12) if number not in (3, 7))


def test_a_mended_picture_is_read_again(dataset: FolderDataset, tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    read_batch(dataset, [0, 3], view=VIEW, quarantine=quarantine)
    Image.new("RGB", (4, 4), (3, 0, 0)).save(dataset.folder / "03.png")
    batch = read_batch(dataset, [0, 3], view=VIEW, quarantine=quarantine)
    assert batch.keys == ("00.png", "03.png") and len(quarantine) == 1


def test_a_wholly_unreadable_batch_is_empty(dataset: FolderDataset, tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    batch = read_batch(dataset, [3, 7], view=VIEW, quarantine=quarantine)
    assert batch.rows.size == 0 and batch.keys == () and batch.views.shape == (0, 4, 4, 3)


def test_nothing_readable_at_all_ends_the_run(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    with pytest.raises(DataError, match=r"none of the first 100 pictures .*: line one line two"):
        read_batch(Broken(), range(1000), view=VIEW, quarantine=quarantine)
    assert len(quarantine) == 100


def test_much_unreadable_after_a_good_one_goes_on(dataset: FolderDataset, tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    read_batch(dataset, [0], view=VIEW, quarantine=quarantine)
    assert read_batch(Broken(), range(300), view=VIEW, quarantine=quarantine).rows.size == 0


def test_a_torn_last_line_is_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.jsonl"
    path.write_text('{"key": "a", "reason": "empty"}\n{"key": "b", "rea')
    assert Quarantine(path).reasons == {"a": "empty"}


def test_threads_do_not_mix_lines(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    quarantine.passed()

    def add(worker: int) -> None:
        for number in range(50):
            quarantine.add(f"{worker}/{number}\n", "r" * 100)

    threads = [Thread(target=add, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Quarantine(quarantine.path).reasons == quarantine.reasons and len(quarantine) == 200
