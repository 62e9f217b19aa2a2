"""`vlv caption` with a fake model: what it prints, what it returns, and how it stops."""

import io
import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.core.fake_captioner import FakeCaptioner, put, said_of
from vlv_core import loading
from vlv_core.cli import app
from vlv_core.cli import caption as caption_module
from vlv_core.cli._caption_report import Report, printable
from vlv_core.console import run
from vlv_core.generation import GenerationOptions
from vlv_core.jobs import Counts, Progress
from vlv_core.protocols import Encoded


class Fake(FakeCaptioner):
    """Also tells its own way of decoding, as real captioners do."""

    def options(self, encoded: Encoded, options: GenerationOptions | None) -> GenerationOptions:
        return options or GenerationOptions(max_new_tokens=56)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLV_PLUGINS", "")
    captioner = Fake()
    asked: dict[str, Any] = {}

    def load(name: str, **options: Any) -> Fake:
        asked.update(options, name=name)
        return captioner

    monkeypatch.setattr(loading, "load", load)
    captioner.asked = asked  # type: ignore[attr-defined]
    return captioner


class Ran:
    """Exit code, and what went to stdout and stderr."""

    def __init__(self, capfd: pytest.CaptureFixture[str], *arguments: str) -> None:
        self.code = run(app, name="vlv", args=["caption", *arguments])
        self.out, self.err = capfd.readouterr()


def test_lines_of_path_and_caption(
    fake: Fake, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "p/a.png", "p/line\nbreak.png")
    (tmp_path / "p/notes.txt").write_text("")
    ran = Ran(capfd, "p")
    assert ran.code == 0
    assert ran.out == f"p/a.png\t{said_of(0)}\np/line\\nbreak.png\t{said_of(1)}\n"
    assert ran.err == "2 in = 2 ok + 0 failed + 0 skipped; 1 other files ignored\n"
    assert fake.given == [None]
    assert fake.asked["name"] == "mini" and fake.asked["device"] == "auto"  # type: ignore[attr-defined]


def test_an_output_file_is_continued(
    fake: Fake, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "p/a.png", "p/b.png")
    (tmp_path / "p/b.png").write_bytes(b"")
    ran = Ran(capfd, "p", "--out", "out.jsonl")
    assert ran.code == 4 and ran.out == ""
    assert ran.err.splitlines() == [
        "failed: p/b.png: the file is empty",
        "2 in = 1 ok + 1 failed + 0 skipped; rows in out.jsonl",
        "error: 1 of 2 inputs failed",
        "hint: --retry-failed tries them again",
    ]
    put(tmp_path, "p/c.png")
    ran = Ran(capfd, "p", "--out", "out.jsonl")
    assert ran.code == 4
    assert "3 in = 1 ok + 0 failed + 2 skipped; 1 of the skipped had failed; rows" in ran.err
    put(tmp_path, "p/a.png", "p/b.png")
    assert Ran(capfd, "p", "--out", "out.jsonl", "--retry-failed").code == 0
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == ["p/a.png", "p/c.png", "p/b.png"]


def test_another_models_file_is_refused(
    fake: Fake, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "a.png")
    assert Ran(capfd, "a.png", "--out", "out.jsonl").code == 0
    fake.name = "fake-2"
    ran = Ran(capfd, "a.png", "--out", "out.jsonl")
    assert ran.code == 2 and "holds captions of model 'fake-1' (the model's own), not" in ran.err
    assert "hint: name another file with --out, or replace this one with --overwrite" in ran.err
    assert Ran(capfd, "a.png", "--out", "out.jsonl", "--overwrite").code == 0
    assert json.loads(Path("out.jsonl").read_text())["model"] == "fake-2"


def test_rows_on_stdout(fake: Fake, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "é.png")
    ran = Ran(capfd, "é.png", "--out", "-")
    assert json.loads(ran.out)["path"] == "é.png" and ran.code == 0
    assert not Path("-").exists()


def test_decoding_flags_change_the_models_own_way(
    fake: Fake, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "a.png")
    assert Ran(capfd, "a.png", "--beams", "3").code == 0
    flags = ("--temperature", "0.7", "--top-p", "0.9", "--seed", "5", "--max-new-tokens", "9")
    assert Ran(capfd, "a.png", *flags).code == 0
    assert fake.given == [
        GenerationOptions(beams=3, max_new_tokens=56),
        GenerationOptions(temperature=0.7, top_p=0.9, seed=5, max_new_tokens=9),
    ]
    ran = Ran(capfd, "a.png", "--beams", "0")
    assert ran.code == 2 and "error: beams is 0; use 1..128" in ran.err


def test_loading_flags_reach_the_loader(
    fake: Fake, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "a.png")
    flags = ("--model", "m", "--device", "cpu", "--dtype", "bfloat16", "--threads", "2")
    assert Ran(capfd, "a.png", *flags, "--batch", "1").code == 0
    asked = fake.asked  # type: ignore[attr-defined]
    assert [asked[name] for name in ("name", "device", "dtype", "threads")] == [
        "m",
        "cpu",
        "bfloat16",
        2,
    ]


def test_no_inputs_is_wrong_usage(fake: Fake, capfd: pytest.CaptureFixture[str]) -> None:
    ran = Ran(capfd, "gone.png")
    assert ran.code == 2 and "error: 'gone.png' is no file, folder, list or pattern" in ran.err
    Path("empty").mkdir()
    ran = Ran(capfd, "empty")
    assert ran.code == 2 and "error: no pictures found" in ran.err
    assert Ran(capfd).code == 2
    # Refused before a model was loaded.
    assert not fake.asked  # type: ignore[attr-defined]


def test_a_list_on_stdin(
    fake: Fake, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a.png", "b.png")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.png\0b.png\0")))
    assert Ran(capfd, "-").out.count("\n") == 2


def test_sidecars(fake: Fake, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "a.png", "b.png")
    Path("b.txt").write_text("mine")
    ran = Ran(capfd, "a.png", "b.png", "--sidecar", "--out", "out.jsonl")
    assert ran.code == 0 and "1 .txt files kept as they were" in ran.err
    assert Path("a.txt").read_text() == f"{said_of(0)}\n"


def test_many_failures_are_not_all_told(
    fake: Fake, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, *[f"{number}.jpg" for number in range(25)])
    for path in tmp_path.glob("*.jpg"):
        path.write_bytes(b"")
    ran = Ran(capfd, ".", "--out", "out.jsonl")
    assert ran.err.count("failed: ") == 20 and 'see "failed" in out.jsonl' in ran.err
    assert Ran(capfd, ".").err.count("failed: ") == 25


def test_progress_without_a_terminal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Report("out.jsonl", total=10)
    report.progress(Progress(Counts(total=10, ok=2), 1.0))
    assert capfd.readouterr().err == ""
    later = time.monotonic() + 60
    monkeypatch.setattr(time, "monotonic", lambda: later)
    report.progress(Progress(Counts(total=10, ok=3, failed=1), 2.0))
    assert capfd.readouterr().err == "4/10, 1 failed, 2.0/s, 3 s left\n"


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    shown.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    with Report("out.jsonl", total=4) as report:
        report.progress(Progress(Counts(total=4, ok=4), 1.0))
    assert "4/4" in shown.getvalue()


def test_names_are_printed_on_one_line() -> None:
    assert printable("a\tb\n\x1b[31mé🦊") == "a\\tb\\n\\x1b[31mé🦊"
    assert printable("caf\udce9") == "caf\\udce9"


def test_help_has_examples() -> None:
    result = CliRunner().invoke(app, ["caption", "--help"])
    assert result.exit_code == 0 and "vlv caption photos/ --out captions.jsonl" in result.output


@pytest.mark.parametrize(
    ("number", "name", "code"), [(signal.SIGTERM, "SIGTERM", 143), (signal.SIGINT, "Ctrl-C", 130)]
)
def test_a_signal_stops_after_the_batch(
    number: signal.Signals, name: str, code: int, fake: Fake, tmp_path: Path
) -> None:
    put(tmp_path, *[f"{n:02}.png" for n in range(20)])

    def signalled(views: Any) -> None:
        os.kill(os.getpid(), number)
        time.sleep(0.05)

    def target() -> None:
        fake.trouble = signalled
        with Path("err").open("w") as sys.stderr:
            exit_code = run(app, name="vlv", args=["caption", ".", "--out", "o.jsonl", "--batch=4"])
        sys.exit(exit_code)

    process = multiprocessing.get_context("fork").Process(target=target)
    process.start()
    process.join(120)
    assert process.exitcode == code
    err = Path("err").read_text()
    assert "20 in = 4 ok + 0 failed + 0 skipped + 16 not reached" in err
    assert "stopped with 16 left; the same command goes on from here" in err
    assert f"stopped by {name}" in err and "Traceback" not in err
    assert len(Path("o.jsonl").read_text().splitlines()) == 4
    assert caption_module.command.name == "caption"
