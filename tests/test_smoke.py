"""recipes/smoke.toml, as a user runs it, cut short: both stages, then captions and a resume."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vlv_core.recipe import load_recipe

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes" / "smoke.toml"
STEPS = 30


def vlv(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vlv_core", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("smoke") / "run"
    vlv("train", str(RECIPE), "--steps", str(STEPS), "-o", str(out))
    return out


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_the_loss_falls(run: Path, stage: str) -> None:
    rows = [json.loads(line) for line in (run / stage / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == STEPS
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]


def test_the_model_captions(run: Path, tmp_path: Path) -> None:
    examples = ROOT / "plugins" / "vlv_plugins" / "mini" / "model" / "examples"
    out = tmp_path / "captions.jsonl"
    vlv("caption", str(examples / "00.png"), str(examples / "01.png"), "--model",
        str(run / "model"), "--max-new-tokens", "20", "--out", str(out))  # fmt: skip
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["status"] for row in rows] == ["ok", "ok"]


def test_a_finished_run_has_nothing_to_resume(run: Path) -> None:
    before = (run / "model" / "head.safetensors").read_bytes()
    vlv("train", str(RECIPE), "--steps", str(STEPS), "-o", str(run), "--resume")
    assert (run / "model" / "head.safetensors").read_bytes() == before


def test_a_dry_run_says_what_would_happen() -> None:
    said = vlv("train", str(RECIPE), "--dry-run").stdout
    for word in ("mini-vit", "trained", "frozen", "samples", "memory"):
        assert word in said


def test_every_recipe_is_readable() -> None:
    for path in (ROOT / "recipes").glob("*.toml"):
        if not path.name.startswith("pretrain"):
            assert load_recipe(path).name
