"""Progress on stderr: rate and time left of each step, on one changing line in a terminal."""

import sys

import numpy as np
import pytest

from vlv_core.cli import _progress
from vlv_core.cli._progress import Told
from vlv_core.strips import Row


class Clock:
    """Stands in for the module `time`."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(_progress, "time", made)
    return made


def test_a_step_says_rate_and_time_left_now_and_then(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    told = Told()
    for done in (10, 20, 30, 40):
        clock.now += 6
        told.progress("captions", done, 40)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["captions: 20/40, 1.7/s, 12 s left", "captions: 40/40, 1.7/s, took 24 s"]


def test_the_next_step_begins_where_the_last_one_ended(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    told = Told()
    clock.now += 50
    told.progress("captions", 5, 5)
    clock.now += 2
    told.progress("drawings", 8, 8)
    assert capsys.readouterr().err.splitlines()[-1] == "drawings: 8/8, 4.0/s, took 2 s"


def test_a_terminal_gets_one_line_a_step(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    told = Told()
    for done in (1, 2, 3):
        clock.now += 1
        told.progress("captions", done, 3)
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and shown.endswith("took 3 s\n")
    assert "captions: 1/3, 1.0/s, 2 s left" in shown


def test_what_is_shown_is_kept() -> None:
    told, row = Told(), Row((np.zeros((8, 8, 3), np.uint8),))
    told.show(row)
    assert told.shown == [row]


def test_no_time_at_all_divides_by_nothing(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    Told().progress("nothing", 0, 0)
    assert "nothing: 0/0" in capsys.readouterr().err
