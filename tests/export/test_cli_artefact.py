"""One real export of a tiny model by the command, and what the other commands say of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from tests.core import tiny_folder
from vlv_core.cli import app as vlv
from vlv_core.console import run
from vlv_core.errors import ModelError
from vlv_core.loading import load
from vlv_export import Runtime
from vlv_export.cli import app
from vlv_export.cli.export import _next
from vlv_export.manifest import read_manifest, write_manifest
from vlv_export.pictures import synthetic


def call(*args: object) -> int:
    return run(app, name="vlv-export", args=[str(each) for each in args])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder.make(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """What the export printed, for the test that reads it."""
    return []


@pytest.fixture(scope="module")
def out(model: Path, tmp_path_factory: pytest.TempPathFactory, printed: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "OUT"
    capture = pytest.MonkeyPatch()
    with capture.context() as patch:
        patch.setattr("click.echo", lambda text="", **options: printed.append(str(text)))
        assert call(model, "-o", folder, "--onnx") == 0
    return folder


def test_an_export_is_proved_and_says_what_comes_next(out: Path, printed: list[str]) -> None:
    entry = read_manifest(out).variant(None)
    assert entry.state == "proved"
    assert entry.precision == {"requested": "fp32", "proved": {"float32": 1.0}}
    assert {"L0", "L1", "L2", "L3", "L4", "L6"} <= set(entry.parity["levels"])
    assert entry.parity["levels"]["L1"] == "passed"
    assert f"next: vlv caption --model {out} PICTURE" in printed
    assert [path.name for path in out.parent.iterdir()] == ["OUT"]


def test_the_artefact_says_the_words_of_the_model(out: Path, model: Path) -> None:
    pictures = list(synthetic(3, height=80, width=64, seed=1))
    eager, deployed = load(model).caption(pictures), load(out).caption(pictures)
    assert [said.text for said in deployed] == [said.text for said in eager]
    assert [said.tokens for said in deployed] == [said.tokens for said in eager]


def test_inspect_shows_the_manifest(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("inspect", out) == 0
    shown = capsys.readouterr().out
    for expected in ("tiny", "random numbers alone", "onnx-fp32 (default)", "float32 100%",
                     "proved", "encoder, head", "L1 passed"):  # fmt: skip
        assert expected in shown
    assert call("inspect", out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["default"] == "onnx-fp32"


def test_verify_proves_again(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("verify", out, "--level", "0", "--level", "l1") == 0
    shown = capsys.readouterr().out
    assert "L0" in shown
    assert "L1" in shown
    assert "L3" not in shown


def test_verify_finds_what_was_changed(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = shutil.copytree(out, tmp_path / "OUT")
    weights = changed / "variants" / "onnx-fp32" / "encoder.data"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2 + 3] ^= 0x40
    weights.write_bytes(data)
    assert call("verify", changed, "--level", "L0") == 5
    assert "encoder.data was changed" in capsys.readouterr().err


def test_verify_refuses_what_is_not_there(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("verify", out, "--level", "L9") == 2
    assert "no level 'L9'" in capsys.readouterr().err
    assert call("verify", out, "--variant", "onnx-fp3") == 2
    assert "no variant 'onnx-fp3'; the artefact has onnx-fp32" in capsys.readouterr().err


def test_nothing_waits_to_be_built(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("build", out) == 0
    assert capsys.readouterr().out == f"nothing waits: onnx-fp32 of {out} is built\n"


def test_an_export_over_it_is_refused(
    out: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (out / "manifest.json").read_bytes()
    assert call(model, "-o", out, "--onnx") == 2
    assert "exists" in capsys.readouterr().err
    assert (out / "manifest.json").read_bytes() == before


@pytest.fixture
def foreign(out: Path, tmp_path: Path) -> Path:
    """A copy whose only variant another program runs."""
    copy = shutil.copytree(out, tmp_path / "OUT")
    manifest = read_manifest(copy)
    theirs = {"genai-fp32": replace(manifest.variant(None), exporter="genai")}
    write_manifest(replace(manifest, variants=theirs, default=None), copy)
    return copy


def test_an_artefact_without_a_default_is_shown(
    foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("inspect", foreign) == 0
    shown = capsys.readouterr().out
    assert "default: none, for vlv runs none of these itself" in shown
    assert "(default)" not in shown


def test_an_artefact_without_a_default_is_not_opened(
    foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError, match="no variant that vlv runs itself; it has genai-fp32"):
        Runtime.open(foreign)
    with pytest.raises(ModelError, match="made by the exporter 'genai'; this runtime runs those"):
        Runtime.open(foreign, variant="genai-fp32")
    Image.new("RGB", (64, 64)).save(foreign / "x.png")
    args = ["caption", "--model", str(foreign), str(foreign / "x.png")]
    assert run(vlv, name="vlv", args=args) == 2
    said = capsys.readouterr().err
    assert "error: the artefact has no variant that vlv runs itself" in said
    assert "hint: variants/NAME/README.md says what runs each" in said


def test_what_comes_next_without_a_default_is_to_read(foreign: Path) -> None:
    order, manifest = SimpleNamespace(out=foreign), read_manifest(foreign)
    assert _next(order, manifest) == f"vlv-export inspect {foreign}"  # type: ignore[arg-type]
    told = foreign / "variants" / "onnx-fp32" / "README.md"
    told.write_text("run it so")
    assert _next(order, manifest) == f"read {told}"  # type: ignore[arg-type]
