"""The shipped recipes: each composes without a download, and every size fits its neighbours."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vlv_core.errors import ConfigError
from vlv_core.plugins import load_plugins
from vlv_core.recipe import Recipe, load_recipe
from vlv_core.training.freeze import freeze_table
from vlv_core.training.start import outline

ROOT = Path(__file__).parents[1]
REAL = {
    "vlv-paper": {"encoder": 0.36, "bottleneck": 0.41, "diffusion": 0.95, "head": 3.09},
    "vlv-paper-small": {"encoder": 0.09, "bottleneck": 0.14, "diffusion": 0.95, "head": 0.49},
    "siglip2-sdxl": {"encoder": 0.40, "condition": 0.82, "diffusion": 2.65, "head": 1.54},
    "dinov2-flow": {"encoder": 0.30, "diffusion": 2.33, "head": 1.54},
    "smollm2": {"encoder": 0.09, "condition": 0.12, "diffusion": 0.94, "head": 0.13},
}
"""10^9 parameters of parts as their publishers count them, to the second digit"""


def recipe(name: str) -> Recipe:
    return load_recipe(ROOT / "recipes" / f"{name}.toml")


def test_every_recipe_of_real_models_is_listed() -> None:
    found = {path.stem for path in (ROOT / "recipes").glob("*.toml")}
    assert found == {*REAL, "mini", "mini-smollm2", "pretrain-s", "smoke"}


@pytest.mark.parametrize("name", REAL)
def test_it_composes_on_the_meta_device(name: str) -> None:
    loaded = recipe(name)
    start = outline(loaded, plugins=load_plugins(), root=ROOT / "recipes", fetching=False)
    for part, billions in REAL[name].items():
        counted = sum(p.numel() for p in getattr(start.model, part).parameters())
        assert counted / 1e9 == pytest.approx(billions, abs=0.01), part
    assert start.model.bottleneck.num_queries == 77
    assert all(p.is_meta for p in start.model.parameters())
    assert loaded.stage1 is not None and loaded.stage2 is not None
    first = {row.part: row.state for row in freeze_table(start.model, loaded.stage1.train, stage=1)}
    assert first["bottleneck"] == "trained"
    assert {first[part] for part in ("encoder", "condition", "diffusion")} == {"frozen"}


def test_the_papers_numbers() -> None:
    """Table and text of arXiv 2507.07104, and its code."""
    paper = recipe("vlv-paper")
    one, two = paper.stage1, paper.stage2
    assert one is not None and two is not None
    assert (one.steps, one.batch, one.lr, one.schedule) == (200_000, 512, 5e-5, "cosine")
    assert (two.steps, two.batch, two.lr, two.schedule) == (100_000, 64, 1e-5, "linear")
    assert (one.dtype, two.dtype) == ("float32", "bfloat16")
    assert one.betas == two.betas == (0.9, 0.99) and one.weight_decay == two.weight_decay == 0.01
    assert one.warmup_steps == two.warmup_steps == 0 and paper.view.size == 384
    for stage in (one, two):
        filters = stage.data.options["filters"]
        assert (filters["min_side"], filters["max_watermark"]) == (512, 0.5)
        assert (filters["min_aspect"], filters["max_aspect"]) == (0.5, 2.0)


def test_neighbours_that_do_not_fit_are_named() -> None:
    """SigLIP 2's tokens are 1152 wide, Florence-2-base reads 768."""
    other = recipe("vlv-paper-small").bottleneck
    with pytest.raises(ConfigError, match=r"1152.*768|768.*1152"):
        outline(
            replace(recipe("siglip2-sdxl"), bottleneck=other),
            plugins=load_plugins(),
            root=ROOT / "recipes",
            fetching=False,
        )


def test_a_dry_run_prints_sizes_memory_and_hours_and_fetches_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vlv_core", "train", str(ROOT / "recipes/smollm2.toml")]
    command += ["--dry-run", "--random-weights", "-o", str(tmp_path / "run"), "--tflops", "300"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "COLUMNS": "100"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "head causal-lm 134,515,008 0.25 GiB" in said
    assert "100,000 x 256 = 25,600,000 samples" in said
    assert "data: webdataset, not usable here:" in said and "matches no file" in said
    assert "GPU hours at 300 TFLOP/s sustained" in said
    assert "captions: 227 tokens, as in the paper" in said
    assert not (tmp_path / "run").exists()
