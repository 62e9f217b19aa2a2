"""From a saved folder and shards on disk through both stages to a model that is loaded again."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from tests.core.shards import png, tar
from tests.plugins.vision_transformers.test_vit_docs import PACKAGE, plugins
from tests.plugins.vision_transformers.tiny_models import BEFORE, library_model, noise
from vlv_core.cli import app
from vlv_core.errors import PluginError
from vlv_core.model_folder import load_model
from vlv_core.plugins import load_plugins
from vlv_core.training import log

RECIPE = """
name = "shards"
seed = 3

[view]
size = 64

[encoder]
plugin = "vision-transformers"
model = "./published"
layer = 2
tokens = "all"

[bottleneck]
plugin = "query"
num_queries = 4
depth = 1
heads = 2

[decoder]
plugin = "mini-t2i"
weights = "mini"

[connector]
plugin = "mlp"

[head]
plugin = "mini-lm"
weights = "mini"

[stage1]
train = ["encoder", "bottleneck"]
steps = 2
batch = 3
lr = 1e-3

[stage1.data]
dataset = "webdataset"
shards = "{0..1}.tar"
filters = { min_side = 512, missing = "drop" }

[stage2]
train = ["connector"]
steps = 2
batch = 3
lr = 1e-3

[stage2.data]
dataset = "webdataset"
shards = "*.tar"
caption = "txt"
"""
PROCESSOR = {
    "size": {"shortest_edge": 28},
    "crop_size": {"height": 24, "width": 24},
    "do_center_crop": True,
    "resample": 3,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    library_model("dinov2_with_registers").save_pretrained(tmp_path / "published")
    (tmp_path / "published/preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    for shard in range(2):
        files: dict[str, object] = {}
        for number in range(4):
            sides = {"original_width": 600, "original_height": 500 + 100 * (number % 2)}
            files |= {f"{number}.png": png(50 * number, (70, 66)), f"{number}.json": sides}
            files[f"{number}.txt"] = "a red circle"
        tar(tmp_path / f"{shard}.tar", files)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def flags() -> list[str]:
    """The family as a plugin file, where the installation does not name it yet."""
    try:
        load_plugins(third_party=False).get("encoder", "vision-transformers")
    except PluginError:
        return ["--plugin", str(PACKAGE)]
    return []


def test_both_stages_from_shards(here: Path) -> None:
    arguments = ["train", "recipe.toml", "--device", "cpu", *flags()]
    result = CliRunner().invoke(app, arguments, prog_name="vlv")
    assert result.exception is None, result.output
    losses = [row.loss for row in log.read(here / "runs/shards/stage2/metrics.jsonl")]
    assert losses and np.isfinite(losses).all()
    model, *_ = load_model(here / "runs/shards/model", plugins=plugins())
    encoder = model.encoder
    assert encoder.num_tokens == BEFORE["dinov2_with_registers"] + 36
    assert (encoder.pixels.size, encoder.pixels.edge) == (24, 28)
    # Stage 1 trained the encoder, from the published weights on.
    before = load_file(here / "published/model.safetensors")["embeddings.cls_token"]
    moved = (encoder.tower.embeddings.cls_token.detach() - before).abs().max()
    assert 0 < float(moved) < 0.01
    with torch.no_grad():
        z = model(torch.from_numpy(noise(1, 24, 24, 3))).z
    assert z.shape[1] == 4 and torch.isfinite(z).all()


def test_a_dry_run_counts_what_was_found(here: Path) -> None:
    arguments = ["train", "recipe.toml", "--dry-run", "--device", "cpu", *flags()]
    result = CliRunner().invoke(app, arguments, prog_name="vlv")
    assert result.exception is None, result.output
    assert "found 8, pictures 4" in " ".join(result.output.split())
    assert not (here / "runs").exists()
