"""`vlv reconstruct`, `vlv eval` and `vlv demo`, on a tiny model of random weights."""

import base64
import json
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tests.core import tiny_folder
from tests.core.toy_evaluators import BOTH
from vlv_core.cli import app
from vlv_core.console import run
from vlv_core.registry import Plugins
from vlv_plugins.scenes.make import make
from vlv_plugins.scenes.world import WORLDS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that brings pictures along."""
    folder = tiny_folder.make(tmp_path_factory.mktemp("looking") / "model")
    make(folder / "examples", world=WORLDS["S"], split="iid", indices=range(3), register="dense")
    return folder


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The toys are the only evaluators."""
    whole = Plugins.all

    def all_but_evaluators(self: Plugins, role: str | None = None) -> list[Any]:
        found = [item for item in whole(self, role) if item.role != "evaluator"]
        return [*found, *(item for item in BOTH.registered if role in (None, "evaluator"))]

    monkeypatch.setattr(Plugins, "all", all_but_evaluators)
    yield


def vlv(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args], prog_name="vlv")


def code(*args: object) -> int:
    return run(app, name="vlv", args=[str(arg) for arg in args])


def pictures(folder: Path) -> Path:
    make(folder, world=WORLDS["S"], split="iid", indices=range(2), register="dense")
    (folder / "captions.jsonl").unlink()
    return folder


def test_reconstruct_writes_a_strip_a_picture(model: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in")
    result = vlv("reconstruct", folder, "--model", model, "-o", tmp_path / "out", "--steps", 2)
    assert result.exit_code == 0, result.output
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [Path(path).name for path, _ in rows] == ["000000.png", "000001.png"]
    for _, strip in rows:
        with Image.open(strip) as image:
            assert image.width == 3 * 128 + 4 * 6
    assert "2 in = 2 ok + 0 failed + 0 skipped" in result.stderr


def test_reconstruct_repeats_itself_and_seeds_differ(model: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in")
    strips = []
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        out_dir = tmp_path / out
        vlv("reconstruct", folder, "--model", model, "-o", out_dir, "--steps", 2, "--seed", seed)
        strips.append([path.read_bytes() for path in sorted(out_dir.iterdir())])
    assert strips[0] == strips[1] != strips[2]


def test_reconstruct_counts_failures(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures(tmp_path / "in")
    (folder / "bad.png").write_bytes(b"<html>")
    assert code("reconstruct", folder, "--model", model, "-o", tmp_path / "out", "--steps", 1) == 4
    told = capsys.readouterr()
    assert "failed: " in told.err and "bad.png" in told.err
    assert "3 in = 2 ok + 1 failed + 0 skipped" in told.err
    assert "error: 1 of 3 inputs failed" in told.err
    assert len(told.out.splitlines()) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "steps is 0, but must be at least 1"),
        (["--model", "nowhere"], "no bundled model named 'nowhere'"),
        (["absent.png"], "'absent.png' is no file"),
    ],
)
def test_reconstruct_refuses(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code("reconstruct", pictures(tmp_path / "in"), *options) == 2
    assert message in capsys.readouterr().err


def test_eval_takes_its_model_as_an_option_too(
    model: Path, toys: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code("eval", "--model", model, "--evaluator", "toy-splits") == 0
    assert "0.500" in capsys.readouterr().out
    for wrong in ((), (model, "--model", model)):
        assert code("eval", *wrong) == 2
        assert "name one MODEL to measure" in capsys.readouterr().err


def test_eval_prints_and_writes(model: Path, tmp_path: Path, toys: None) -> None:
    result = vlv("eval", model, "--evaluator", "toy-splits", "--seed", 3, "--out", tmp_path / "e")
    assert result.exit_code == 0, result.output
    assert re.search(r"f1 +0\.500 +0\.250", result.stdout)
    assert re.search(r"words +12\.000 +-", result.stdout)
    report = json.loads((tmp_path / "e" / "eval.json").read_text())
    assert report["splits"]["iid"]["f1"]["value"] == 0.5
    assert report["evaluators"]["toy-splits"]["options"]["seed"] == 3
    assert report["model"].startswith("tiny@") and report["domain"] == "random numbers alone"
    text = (tmp_path / "e" / "EVAL.md").read_text()
    assert "random numbers alone" in text and "](examples-1.png)" in text
    with Image.open(tmp_path / "e" / "examples-1.png") as sheet:
        assert sheet.width > 3 * 128


def test_eval_passes_options_by_flag_and_by_set(model: Path, tmp_path: Path, toys: None) -> None:
    arguments = ["--evaluator", "toy-splits", "--captions", 4, "--set", "seed=9"]
    assert vlv("eval", model, *arguments, "--out", tmp_path).exit_code == 0
    options = json.loads((tmp_path / "eval.json").read_text())["evaluators"]["toy-splits"]
    assert options["options"] == {"captions": 4, "seed": 9}


def test_eval_without_drawings_opens_no_diffusion(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def load(name: str, *, parts: str, **options: Any) -> Any:
        opened.append(parts)
        raise KeyboardInterrupt

    monkeypatch.setattr("vlv_core.loading.load", load)
    code("eval", model, "--reconstructions", 0)
    code("eval", model)
    assert opened == ["caption", "all"]


def test_eval_refuses_unknown_options(
    model: Path, toys: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code("eval", model, "--evaluator", "toy-splits", "--set", "sed=1") == 2
    assert "no key 'sed'; did you mean 'seed'" in capsys.readouterr().err
    assert code("eval", model, "--evaluator", "elsewhere") == 2
    assert "no evaluator named 'elsewhere'" in capsys.readouterr().err


def test_eval_of_scenes_with_the_bundled_oracle(model: Path, tmp_path: Path) -> None:
    options = ["--captions", 8, "--reconstructions", 3, "--steps", 2, "--set", 'splits=["iid"]']
    result = vlv("eval", model, "--evaluator", "scenes", *options, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "eval.json").read_text())
    assert report["splits"]["iid"]["scene_f1"] == {"value": 0, "low": 0, "high": 0, "n": 8}
    assert report["splits"]["iid"]["unparsable"]["value"] == 1, "random words are no sentence"
    assert report["reconstruction"]["original"]["scene_f1"]["value"] == 1
    assert report["reconstruction"]["embedding"]["scene_f1"]["n"] == 3
    assert "captions of iid: 8/8" in result.stderr
    assert "drawings at guidance 3: 3/3" in result.stderr


def test_demo_writes_one_page_with_everything(model: Path, tmp_path: Path, toys: None) -> None:
    result = vlv("demo", "--model", model, "--out", tmp_path / "demo", "--captions", 5)
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "demo" / "report.html") in result.stdout
    assert "random numbers alone" in result.stderr
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "What this model has seen:</b> random numbers alone" in page
    assert "3 pictures captioned" in page and "3 pictures redrawn" in page
    assert page.count("true: ") == 3, "the world's own captions"
    assert "prefers-color-scheme: dark" in page
    assert '<span class="right">\u2713 of this</span>' in page
    assert re.search(r"<td>f1</td><td>0\.500 \(0\.400 to 0\.600\)</td>", page)
    sources = re.findall(r'src="([^"]{0,40})', page)
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in page and "<script" not in page, "nothing is fetched, nothing is run"
    first = re.search(r'base64,([^"]+)"', page)
    assert first is not None
    with Image.open(BytesIO(base64.b64decode(first[1]))) as image:
        assert image.size == (64, 64)


def test_demo_of_a_model_without_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_folder.make(tmp_path / "model")
    assert code("demo", "--model", folder) == 2
    told = capsys.readouterr().err
    assert "it has no folder 'examples'" in told and "'vlv caption' and 'vlv reconstruct'" in told


def test_demo_of_pictures_without_captions(model: Path, tmp_path: Path, toys: None) -> None:
    folder = tiny_folder.make(tmp_path / "model")
    pictures(folder / "examples")
    assert vlv("demo", "--model", folder, "--out", tmp_path / "demo").exit_code == 0
    assert "true: " not in (tmp_path / "demo" / "report.html").read_text()


@pytest.mark.parametrize("name", ["reconstruct", "eval", "demo"])
def test_help_has_examples(name: str) -> None:
    result = vlv(name, "--help")
    assert result.exit_code == 0 and "Examples:" in result.output
