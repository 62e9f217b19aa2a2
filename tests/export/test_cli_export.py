"""The command line of vlv-export: what it takes, says and answers, without exporting."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.core import tiny_folder
from vlv_core.console import run
from vlv_export.cli import app
from vlv_export.cli._app import TABLE, with_default

LOCAL = """
from vlv_core import ExporterSpec, hookimpl

@hookimpl
def vlv_exporters():
    return [ExporterSpec(name="mine-too", summary="my own", run="nowhere:None")]
"""


def call(*args: object) -> int:
    return run(app, name="vlv-export", args=[str(each) for each in args])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder.make(tmp_path_factory.mktemp("model") / "tiny")


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("mini -o OUT --onnx", "export mini -o OUT --onnx"),
        ("--onnx mini", "export --onnx mini"),
        ("./inspect -o OUT", "export ./inspect -o OUT"),
        ("mini --help", "export mini --help"),
        ("--plugin inspect mini", "--plugin inspect export mini"),
        ("--verbose --block x verify OUT", "--verbose --block x verify OUT"),
        ("inspect OUT", "inspect OUT"),
        ("export mini", "export mini"),
        ("--help", "--help"),
        ("--version", "--version"),
        ("", ""),
    ],
)
def test_a_model_may_stand_where_a_subcommand_is_due(given: str, taken: str) -> None:
    assert with_default(given.split(), TABLE) == taken.split()


def test_help_shows_flags_subcommands_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--help") == 0
    shown = capsys.readouterr().out
    for expected in ("MODEL -o OUT --onnx", "--onnx", "--dtype", "inspect", "verify", "doctor",
                     "vlv-export mini -o OUT --onnx --dry-run"):  # fmt: skip
        assert expected in shown
    assert call() == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("word", [[], ["export"]])
def test_usage_leaves_out_the_word_that_nobody_types(
    word: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*word, "mini", "--help") == 0
    assert capsys.readouterr().out.startswith("Usage: vlv-export [OPTIONS] MODEL\n")
    assert call(*word, "mini", "--onnxx") == 2
    said = capsys.readouterr().err
    assert "no such option" in said and "hint: 'vlv-export --help' shows the usage" in said


def test_usage_of_a_subcommand_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("inspect") == 2
    assert "hint: 'vlv-export inspect --help' shows the usage" in capsys.readouterr().err


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    program = "import sys; from vlv_core.console import run; from vlv_export.cli import app; "
    program += "run(app, name='x', args=['--help']); print(*sys.modules, file=sys.stderr)"
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - started
    loaded = set(done.stderr.split())
    assert not loaded & {"torch", "onnx", "onnxruntime", "transformers", "onnx_ir"}
    assert seconds < 3, "a third of a second on a quiet machine"


def test_without_an_exporter_those_that_exist_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("mini", "-o", "OUT") == 2
    assert "error: nothing to export to; there are --" in (said := capsys.readouterr().err)
    assert "--onnx" in said


def test_a_local_plugin_brings_its_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "local.py"
    file.write_text(LOCAL)
    for args in (["--plugin", file, "mini", "--help"], ["mini", f"--plugin={file}", "--help"]):
        assert call(*args) == 0
        assert "--mine-too" in capsys.readouterr().out
    assert call("mini", "--mine-too", "-o", tmp_path / "OUT") == 2
    assert "no such option" in capsys.readouterr().err.lower()


def test_an_unknown_dtype_is_told_with_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("mini", "-o", "OUT", "--onnx", "--dtype", "fp32,int3") == 2
    said = capsys.readouterr().err
    assert "error: no dtype 'int3'" in said
    assert "--onnx has fp32, fp16, bf16, int8, int4" in said


def test_out_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("mini", "--onnx") == 2
    assert "missing option -o OUT" in capsys.readouterr().err


def test_an_unknown_model_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("minni", "--onnx", "-o", tmp_path / "OUT") == 2
    assert "no bundled model named 'minni'; did you mean 'mini'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_artefact_stays(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letters").write_text("dear")
    assert call(model, "--onnx", "--force", "-o", tmp_path) == 2
    assert "is no artefact, so it is not replaced" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]


def test_a_dry_run_prints_sizes_and_makes_nothing(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--onnx", "--dtype", "fp32,bf16,int4", "--reconstruct", "--dry-run"]
    assert call(model, *args, "-o", tmp_path / "OUT") == 0
    shown = capsys.readouterr().out
    for expected in ("onnx-fp32", "onnx-bf16", "onnx-int4", "no bf16 kernels", "denoiser",
                     "when done", "while it runs", "free"):  # fmt: skip
        assert expected in shown
    assert not list(tmp_path.iterdir())


def test_a_dry_run_of_a_recipe_needs_no_weights(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Path(__file__).parents[2] / "recipes" / "mini.toml"
    assert call(recipe, "--random-weights", "--onnx", "--dry-run") == 0
    assert "onnx-fp32" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["inspect", "verify", "build"])
def test_what_is_no_artefact_is_told(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(command, tmp_path) == 2
    assert "is no finished artefact" in capsys.readouterr().err


def test_the_doctor_names_backends_and_what_is_absent(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("doctor") == 0
    assert "onnxruntime" in capsys.readouterr().out
    assert call("doctor", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert "cores" in told["machine"]["cpu"]
    by_name = {each["name"]: each for each in told["backends"]}
    assert by_name["onnxruntime"]["version"]
    assert "CPU" in by_name["onnxruntime"]["devices"]
    for each in told["backends"]:
        assert bool(each["version"]) != bool(each["install"]), "one of both"
