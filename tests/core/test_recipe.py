"""Recipes: TOML -> `Recipe`, and refusals that name the file and the key."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from vlv_core.config import convert, to_dict
from vlv_core.errors import ConfigError
from vlv_core.overrides import parse_overrides
from vlv_core.recipe import Data, Part, Recipe, load_recipe
from vlv_core.specs import View

TEXT = """\
name = "tiny"
seed = 7
domain = "squares"
view = { size = 32 }

[encoder]
plugin = "patch-mean"
weights = "mini"
dim = 16

[bottleneck]
plugin = "query"
num_queries = 4

[decoder]
plugin = "d"
revision = "abc"

[connector]
plugin = "mlp"

[head]
plugin = "h"

[stage1]
train = ["bottleneck", "encoder.last"]
steps = 10
batch = 8
lr = 1e-3
accumulate = 2
data = { dataset = "folder", path = "pictures", recursive = false }

[stage2]
train = ["connector", "head"]
steps = 5
batch = 4
lr = 1
seed = 3
[stage2.data]
dataset = "jsonl"
path = "captions.jsonl"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TEXT)
    return path


def load(path: Path, *texts: str) -> Recipe:
    return load_recipe(path, parse_overrides(texts))


def test_a_recipe(path: Path) -> None:
    recipe = load(path)
    assert (recipe.name, recipe.seed, recipe.view) == ("tiny", 7, View(32))
    assert recipe.encoder == Part(plugin="patch-mean", weights="mini", options={"dim": 16})
    assert recipe.decoder == Part(plugin="d", revision="abc")
    assert list(recipe.parts()) == ["encoder", "bottleneck", "decoder", "connector", "head"]
    assert recipe.stage1 is not None and recipe.stage2 is not None
    assert recipe.stage1.data == Data(
        dataset="folder", options={"path": "pictures", "recursive": False}
    )
    assert (recipe.stage2.lr, recipe.stage2.data.dataset) == (1.0, "jsonl")
    assert (recipe.stage1.schedule, recipe.stage1.betas) == ("cosine", (0.9, 0.99))


def test_the_seed_is_each_stages_unless_it_names_one(path: Path) -> None:
    recipe = load(path)
    assert recipe.stage1 and recipe.stage2
    assert (recipe.stage1.seed, recipe.stage2.seed) == (7, 3)
    recipe = load(path, "seed=11")
    assert recipe.stage1 and recipe.stage1.seed == 11


def test_overrides_go_in_before_the_check(path: Path) -> None:
    recipe = load(path, "stage1.lr=0.5", "encoder.plugin=other", "stage1.data.path=/my pictures")
    assert recipe.stage1 and recipe.stage1.lr == 0.5
    assert recipe.encoder.plugin == "other"
    assert recipe.stage1.data.options["path"] == "/my pictures"


def test_stages_may_be_absent(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    path.write_text(TEXT[: TEXT.index("[stage1]")])
    recipe = load(path)
    assert recipe.stage1 is None and recipe.stage2 is None


def test_a_resolved_recipe_reads_back(path: Path) -> None:
    recipe = load(path)
    assert convert(Recipe, to_dict(recipe), "again") == recipe


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sead=3", r"^tiny\.toml: no key 'sead'; did you mean 'seed'\?; known: name, summary"),
        ("seed=x", r"^tiny\.toml: seed: expected an integer, got 'x' \(text\)"),
        ("stage1.lr=fast", r"tiny\.toml: stage1\.lr: expected a number, got 'fast' \(text\)"),
        ("stage1.batches=3", r"tiny\.toml: stage1: no key 'batches'; did you mean 'batch'\?"),
        ("stage1.dtype=float16", r"stage1\.dtype: expected 'float32' or 'bfloat16', got 'float16'"),
        ("stage1.data.dataset=3", r"stage1\.data\.dataset: expected text, got 3"),
        ("stage1.data={path='x'}", r"stage1\.data: key 'dataset' missing"),
        ("encoder={}", r"tiny\.toml: encoder: key 'plugin' missing"),
        ("head=3", r"tiny\.toml: head: expected a table, got 3"),
        ("view.size=0", r"tiny\.toml: view\.size is 0, but must be at least 1 pixel"),
        ("view.fit=stretch", r"view\.fit: expected 'crop' or 'squash' or 'pad', got 'stretch'"),
        ("stage1.lr=0", r"tiny\.toml: stage1: lr is 0\.0, but must be above 0"),
        ("stage1.noise_samples=-1", r"stage1: noise_samples is -1, but must be above 0"),
        ("stage1.cache_gib=0", r"stage1: cache_gib is 0\.0, but must be above 0"),
        ("stage1.steps=0", r"stage1: steps is 0, but must be at least 1"),
        ("stage1.train=[]", "stage1: train is empty, so nothing would learn"),
        ("stage1.accumulate=3", "stage1: batch 8 is no multiple of accumulate 3"),
        (
            "stage1.train=['decoder']",
            r"stage1\.train: 'decoder' does not learn in this stage.*may: encoder, bottleneck$",
        ),
        ("stage1.train=['head']", r"stage1\.train: 'head' does not learn in this stage"),
        ("stage2.train=['connecter.x']", r"stage2\.train: 'connecter\.x' .*mean 'connector'\?"),
    ],
)
def test_what_is_refused(path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(path, override)


@pytest.mark.parametrize("key", ["name", "seed", "view", "encoder", "head"])
def test_what_must_be_there(path: Path, key: str) -> None:
    data: dict[str, Any] = tomllib.loads(TEXT)
    del data[key]
    with pytest.raises(ConfigError, match=f"tiny.toml: key '{key}' missing"):
        convert(Recipe, data, "tiny.toml")


def test_a_file_that_is_missing_names_the_nearest(path: Path) -> None:
    message = r"recipe '.*tin\.toml' cannot be read: No such .*mean 'tiny\.toml'\?; recipes there"
    with pytest.raises(ConfigError, match=message):
        load(path.with_name("tin.toml"))
    with pytest.raises(ConfigError, match=r"cannot be read: No such file or directory$"):
        load(path.parent / "no" / "folder.toml")


@pytest.mark.parametrize("content", [b"name = \n", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_a_file_that_is_not_toml(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"tiny\.toml is not TOML: "):
        load(path)
