"""What a training leaves to be looked at: rows, curve, strip, board, estimates."""

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.core.training_parts import Pictures, tiny_vlv
from vlv_core.cli._train_report import in_words
from vlv_core.errors import DataError
from vlv_core.specs import View
from vlv_core.strips import EDGE
from vlv_core.training import log
from vlv_core.training.board import Board
from vlv_core.training.charts import draw_curve
from vlv_core.training.log import Metrics, MetricsFile, clock, line, resident_gib
from vlv_core.training.measure import denoising_error
from vlv_core.training.strip import StripRow, draw_strip, readable


def row(step: int, *, loss: float = 0.5, seconds: float = 1.0) -> Metrics:
    return Metrics(
        step=step, loss=loss, lr=1e-3, grad_norm=2.0, pictures_per_s=99.0, seconds=seconds
    )


def test_rows_beyond_the_checkpoint_are_dropped_at_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = MetricsFile(path)
    for step in (5, 10, 15):
        first.write(row(step, seconds=step / 10))
    resumed = MetricsFile(path, resume_at=10)
    resumed.write(row(15, loss=0.25))
    assert [(r.step, r.loss) for r in log.read(path)] == [(5, 0.5), (10, 0.5), (15, 0.25)]
    assert resumed.lap()[1] >= 1.0, "seconds go on where the kept rows end"


def test_a_cut_last_row_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    MetricsFile(path).write(row(5))
    path.write_text(path.read_text() + '{"step": 10, "lo')
    assert [r.step for r in log.read(path)] == [5]
    assert log.read(tmp_path / "nowhere.jsonl") == []


def test_a_process_that_is_not_the_main_one_writes_nothing(tmp_path: Path) -> None:
    MetricsFile(tmp_path / "metrics.jsonl", active=False).write(row(1))
    assert not list(tmp_path.iterdir())


def test_the_line() -> None:
    said = line(row(20), name="stage 1", steps=400, seconds_left=3725.4)
    assert said.startswith("stage 1 20/400  loss 0.5000  99.0 pictures/s  1:02:05 left  ")
    assert [clock(s) for s in (0, 59.6, 3600)] == ["0:00:00", "0:01:00", "1:00:00"]


def test_memory_is_that_of_this_process() -> None:
    before = resident_gib()
    block = np.ones(64 << 20, np.uint8)
    assert 0.04 < resident_gib() - before < 0.09 and block.any()


def test_the_curve_is_a_picture(tmp_path: Path) -> None:
    draw_curve([row(s, loss=1 / s) for s in range(1, 50)], tmp_path / "c.png", title="stage 1")
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.format == "PNG" and picture.size[0] > 500
        assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 10
    assert [path.name for path in tmp_path.iterdir()] == ["c.png"]


def test_the_strip_holds_original_reconstruction_and_caption(tmp_path: Path) -> None:
    red = np.full((64, 64, 3), (255, 0, 0), np.uint8)
    blue = np.full((64, 64, 3), (0, 0, 255), np.uint8)
    path = tmp_path / "strips" / "s.png"
    draw_strip([StripRow(red, blue, "a red square " * 9), StripRow(blue, red, "b")], path)
    with Image.open(path) as picture:
        sheet = np.asarray(picture)
    middle = 6 + EDGE // 2
    assert sheet[middle, middle].tolist() == [255, 0, 0]
    assert sheet[middle, middle + EDGE + 6].tolist() == [0, 0, 255]
    assert (sheet[:EDGE, 2 * EDGE + 18 :] < 128).any(), "words"
    draw_strip([StripRow(red, blue)], path)
    with Image.open(path) as picture:
        assert picture.size[0] == 2 * EDGE + 18, "no room for words that are not there"


def test_the_strip_leaves_unreadable_pictures_out() -> None:
    found = readable(Pictures(6, broken=[0, 2]), view=View(size=8), count=4)
    assert len(found) == 2 and found[0].shape == (8, 8, 3)


def test_the_board_is_silent_without_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlv_core.training.board.find_spec", lambda name: None)
    board = Board(tmp_path)
    board.write(row(1))
    board.close()
    assert not list(tmp_path.iterdir())


def test_the_board_writes_scalars_and_purges_what_a_resume_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    class SummaryWriter:
        def __init__(self, folder: str, *, purge_step: int) -> None:
            calls.append(("open", purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            calls.append((name, value, step))

        def close(self) -> None:
            calls.append("close")

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr("vlv_core.training.board.find_spec", lambda name: "there")
    board = Board(tmp_path, resume_at=20)
    board.write(row(25))
    board.close()
    assert calls[0] == ("open", 21) and calls[-1] == "close"
    assert ("loss", 0.5, 25) in calls and ("lr", 1e-3, 25) in calls


def test_sizes_in_words() -> None:
    assert in_words(3 << 20) == "3.0 MiB" and in_words(3 << 29) == "1.50 GiB"


def test_the_denoising_error_is_repeatable_and_sees_a_spoilt_encoder() -> None:
    model = tiny_vlv()
    torch.manual_seed(1)
    first = denoising_error(model, Pictures())
    torch.manual_seed(2)
    assert denoising_error(model, Pictures()) == first
    assert denoising_error(model, Pictures(), rows=8) == pytest.approx(first, rel=1e-5)
    assert denoising_error(model, Pictures(broken=[1])) != first
    with torch.no_grad():
        model.bottleneck.phi[2].weight.mul_(30)
    assert denoising_error(model, Pictures()) != first
    with pytest.raises(DataError, match="no picture of the dataset can be read"):
        denoising_error(model, Pictures(2, broken=[0, 1]))
