"""`vlv train`, from a recipe to a model folder."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from tests.core.training_parts import write_recipe
from vlv_core.cli import app
from vlv_core.console import run
from vlv_core.errors import ConfigError, UsageError
from vlv_core.model import VLV
from vlv_core.model_folder import load_model, read_manifest
from vlv_core.plugins import load_plugins
from vlv_core.training import checkpoint, log

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the tiny recipe and plugin, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path)
    yield tmp_path
    sys.modules.pop("vlv_tiny_parts", None)


def vlv(*args: str) -> Result:
    flags = ["--plugin", "vlv_tiny_parts.py", "--device", "cpu"]
    return CliRunner().invoke(app, ["train", "tiny.toml", *flags, *args], prog_name="vlv")


def trained(*args: str) -> str:
    result = vlv(*args)
    assert result.exception is None, result.output
    return result.output


def vlv_raising(*args: str) -> None:
    error = vlv(*args).exception
    assert error is not None
    raise error


def model_of(folder: Path) -> VLV:
    plugins = load_plugins(files=[folder.parents[1] / "vlv_tiny_parts.py"])
    return load_model(folder / "model", plugins=plugins)[0]


def same(one: VLV, other: VLV) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


def test_both_stages_into_a_model_folder(here: Path) -> None:
    said = trained()
    folder = here / "runs" / "tiny"
    assert "stage 1 6/6" in said and "stage 2 6/6" in said
    assert "1 unreadable pictures were left out" in said
    for number in (1, 2):
        out = folder / f"stage{number}"
        assert [row.step for row in log.read(out / "metrics.jsonl")] == [2, 4, 6]
        assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    strips = sorted(path.name for path in (folder / "stage1" / "strips").iterdir())
    assert strips == ["step-00000003.png", "step-00000006.png"]
    manifest = read_manifest(folder / "model")
    assert (manifest.name, manifest.domain) == ("tiny", "noise of 8 x 8 pixels")
    assert manifest.training["seed"] == 7
    model = model_of(folder)
    found = checkpoint.newest(folder / "stage2" / "checkpoints")
    assert found is not None
    for name, weight in found.weights.items():
        assert torch.equal(model.state_dict()[name], weight)


def test_reconstruction_is_measured_around_a_stage_2_that_trains_the_bottleneck(here: Path) -> None:
    said = trained()
    path = here / "runs" / "tiny" / "stage2" / "reconstruction.json"
    record = json.loads(path.read_text())["denoising_error"]
    assert f"denoising error {record['before']:.5f} before stage 2, {record['after']:.5f}" in said
    trained("-o", "runs/other", "--set", 'stage2.train=["connector", "head"]')
    assert not (here / "runs" / "other" / "stage2" / "reconstruction.json").exists()


def test_one_stage_after_the_other_is_both_at_once(here: Path) -> None:
    trained("-o", "runs/both")
    trained("-o", "runs/apart", "--stage", "1")
    assert read_manifest(here / "runs/apart/model").training["stage1"] == 6
    said = trained("-o", "runs/apart", "--stage", "2")
    assert "stage 2 starts from stage 1 of this run" in said
    assert same(model_of(here / "runs/both"), model_of(here / "runs/apart"))


def test_stage_2_alone_starts_from_the_recipe(here: Path) -> None:
    said = trained("--stage", "2", "-o", "runs/random")
    assert "stage 2 starts from the recipe alone" in said
    assert not (here / "runs/random/stage1").exists()


def test_stage_2_refuses_an_unfinished_stage_1(here: Path) -> None:
    trained("--stage", "1", "--set", "stage1.checkpoint_every=3")
    for path in checkpoint.steps(here / "runs/tiny/stage1/checkpoints")[:1]:
        (path / "manifest.json").unlink()
    result = vlv("--stage", "2", "--set", "stage1.checkpoint_every=3")
    assert "stopped at step 3 of 6" in str(result.exception)


def test_a_used_folder_needs_resume_and_the_same_recipe(here: Path) -> None:
    trained("--stage", "1")
    assert "already holds checkpoints" in str(vlv("--stage", "1").exception)
    trained("--stage", "1", "--resume", "--set", "stage1.log_every=3")
    result = vlv("--stage", "1", "--resume", "--set", "stage1.lr=1e-3")
    assert "stage1.lr: 0.01 there, 0.001 here" in str(result.exception)


def test_a_run_that_began_with_other_weights_is_refused(here: Path) -> None:
    """Frozen parts are not in checkpoints: a trial's stage 1 has learnt beside random ones."""
    trained("-o", "first")
    weights = ["--set", "decoder.weights='first/model'"]
    trained("--random-weights", "--stage", "1", *weights)
    wanted = r"belongs to another recipe: first_weights\.condition: None there, '[0-9a-f]{16}' here"
    for again in (["--stage", "2"], ["--resume"]):
        with pytest.raises(ConfigError, match=wanted):
            vlv_raising(*weights, *again)
    trained(*weights, "-o", "second", "--stage", "1")
    trained("-o", "first", "--resume", "--set", "stage2.checkpoint_every=2")
    trained(*weights, "-o", "second", "--stage", "2")


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ("stage2.train=['head.nope']", "'head.nope' names no parameter"),
        ("stage2.data.dataset='nowhere'", "no dataset named 'nowhere'"),
    ],
)
def test_what_would_stop_stage_2_is_told_before_stage_1(
    change: str, wanted: str, here: Path
) -> None:
    with pytest.raises(UsageError, match=wanted):
        vlv_raising("--set", change)
    assert not (here / "runs").exists()


def test_dry_run_tells_and_leaves_nothing(here: Path) -> None:
    before = sorted(here.iterdir())
    said = " ".join(trained("--dry-run").split())
    assert sorted(here.iterdir()) == before
    assert "PART PLUGIN PARAMETERS INFERENCE, bfloat16 encoder tiny-encoder 1,056 0.0 MiB" in said
    assert "encoder trained 1,056 0.0 MiB" in said and "encoder frozen 0 0.0 MiB" in said
    assert "condition frozen 0 0.0 MiB" in said
    assert "diffusion frozen 0 0.0 MiB" in said and "diffusion not used 0 -" in said
    assert "head not used 0 -" in said and "head trained" in said
    assert "GPU hours at 150 TFLOP/s sustained" in said
    assert "data: tiny, 24 samples (pictures 24)" in said
    assert "steps: 6 x 8 = 48 samples, 2.00 epochs, on 1 processes" in said
    assert "memory a process: about" in said and "activations" in said


def test_steps_set_both_length_and_warm_up(here: Path) -> None:
    trained("--steps", "2", "--stage", "1", "--set", "stage1.warmup_steps=3")
    assert [row.step for row in log.read(here / "runs/tiny/stage1/metrics.jsonl")] == [2]


def test_errors_of_wrong_usage(here: Path) -> None:
    assert "no key 'lrr'; did you mean 'lr'" in str(vlv("--set", "stage1.lrr=1").exception)
    assert "has no [stage2]; it has stage1" in str(
        (_without_stage2(here), vlv("--stage", "2"))[1].exception
    )
    missing = CliRunner().invoke(app, ["train", "nowhere.toml"], prog_name="vlv")
    assert "nowhere.toml" in str(missing.exception)


def test_data_is_opened_before_weights_are_looked_for(here: Path) -> None:
    """They may take an hour to fetch."""
    wrong = vlv("--set", "encoder.weights=nowhere", "--set", "stage2.data.brokn=[1]")
    assert "no key 'brokn'" in str(wrong.exception)


def _without_stage2(folder: Path) -> None:
    recipe = folder / "tiny.toml"
    recipe.write_text(recipe.read_text().partition("[stage2]")[0])


def test_wrong_usage_exits_2(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "tiny.toml", "--plugin", "vlv_tiny_parts.py", "--set", "stage1.lrr=1"]
    assert run(app, name="vlv", args=arguments) == 2
    assert capsys.readouterr().err.startswith("error: tiny.toml: stage1: no key 'lrr'")


def test_sigterm_says_how_to_resume(here: Path) -> None:
    arguments = ["train", "tiny.toml", "--plugin", "vlv_tiny_parts.py", "--stage", "1"]
    arguments += ["--set", "stage1.log_every=1", "--set", "stage1.strip_every=0"]
    arguments += ["--set", "stage1.steps=100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vlv_core", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("stage 1 5/"):
            break
    process.send_signal(signal.SIGTERM)
    said = process.stderr.read()
    assert process.wait() == 128 + signal.SIGTERM
    assert "of stage 1; a checkpoint is written" in said
    assert "hint: vlv train tiny.toml" in said and "--set stage1.log_every=1" in said
    assert "--resume goes on from there" in said
    found = checkpoint.newest(here / "runs/tiny/stage1/checkpoints")
    assert found is not None and found.step >= 5
