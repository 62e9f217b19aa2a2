"""What an export prints while it runs: lines where nobody looks on, a bar on a terminal."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from vlv_core.errors import NotProved
from vlv_export.cli import _progress
from vlv_export.cli._progress import Shown
from vlv_export.pipeline import watched


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_progress, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, force_terminal=terminal, width=200), written


def test_a_line_for_each_step_with_its_seconds(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    screen, written = console(terminal=False)
    shown = Shown(screen)
    shown.begin(["capture encoder", "assets", "build onnx-fp32"])
    shown.step("capture encoder", kept=False)
    clock.now += 2.5
    shown.step("assets", kept=True)
    clock.now += 7
    shown.step("build onnx-fp32", kept=False)
    clock.now += 1.25
    shown.end(done=True)
    said = ["capture encoder: 2.5 s", "assets: kept from before", "build onnx-fp32: 1.2 s"]
    assert capsys.readouterr().err.splitlines() == said
    assert written.getvalue() == ""


def test_a_step_that_was_stopped_does_not_look_done(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = Shown(console(terminal=False)[0])
    with pytest.raises(KeyboardInterrupt), watched(shown, ["assets"]):
        shown.step("assets", kept=False)
        clock.now += 3
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "assets: stopped after 3.0 s\n"


def test_a_proof_that_fails_is_done(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Shown(console(terminal=False)[0])
    with pytest.raises(NotProved, match="another"), watched(shown, ["prove it"]):
        shown.step("prove it", kept=False)
        clock.now += 3
        raise NotProved("another")
    assert capsys.readouterr().err == "prove it: 3.0 s\n"


def test_the_end_is_told_once(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Shown(console(terminal=False)[0])
    shown.begin(["assets"])
    shown.step("assets", kept=False)
    shown.end(done=True)
    shown.end(done=True)
    assert capsys.readouterr().err == "assets: 0.0 s\n"


def test_what_is_told_within_a_step_needs_a_terminal(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    screen, written = console(terminal=False)
    shown = Shown(screen)
    shown.begin(["assets"])
    shown.step("assets", kept=False)
    shown.tell("tokenizer")
    shown.progress("layers", 1, 2)
    assert written.getvalue() == "" and capsys.readouterr().err == ""


def last_frame(written: io.StringIO) -> str:
    """What the bar showed when it was taken away."""
    return next(line for line in reversed(written.getvalue().splitlines()) if "/" in line)


def test_a_terminal_shows_the_step_its_place_and_what_is_done(clock: Clock) -> None:
    screen, written = console(terminal=True)
    shown = Shown(screen)
    shown.begin(["capture encoder", "capture head", "assets"])
    shown.step("capture encoder", kept=True)
    shown.step("capture head", kept=False)
    shown.tell("tracing")
    shown.end(done=True)
    frame = last_frame(written)
    assert "capture head" in frame and "1/3" in frame and "tracing" in frame


def test_the_next_step_forgets_what_the_last_one_told(clock: Clock) -> None:
    screen, written = console(terminal=True)
    shown = Shown(screen)
    shown.begin(["capture head", "assets"])
    shown.step("capture head", kept=False)
    shown.tell("tracing")
    shown.step("assets", kept=False)
    shown.end(done=True)
    assert "tracing" not in last_frame(written)


@pytest.mark.parametrize(
    ("seconds", "done", "said"),
    [(4.0, 8, "layers: 8/20, 2.0/s, 6 s left"), (0.5, 20, "layers: 20/20, 40.0/s, 0 s left")],
)
def test_what_is_counted_has_a_rate_and_an_end(
    clock: Clock, seconds: float, done: int, said: str
) -> None:
    screen, written = console(terminal=True)
    shown = Shown(screen)
    shown.begin(["build onnx-int8"])
    shown.step("build onnx-int8", kept=False)
    clock.now += 30  # something else of the same step
    shown.progress("layers", 0, 20)
    clock.now += seconds
    shown.progress("layers", done, 20)
    shown.end(done=True)
    assert said in last_frame(written)
