"""The spoilt splits, and the command that writes scenes as files."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from vlv_core.errors import UsageError
from vlv_plugins.scenes.captions import caption
from vlv_plugins.scenes.make import main, make
from vlv_plugins.scenes.parsing import parse
from vlv_plugins.scenes.pictures import NOISE_SIGMA, jpeg, noise, pictures
from vlv_plugins.scenes.render import render
from vlv_plugins.scenes.splits import scenes
from vlv_plugins.scenes.world import WORLDS, Scene

S, M = WORLDS["S"], WORLDS["M"]


def test_clean_splits_are_rendered_as_they_are():
    for split in ("train", "iid", "mirrored", "held-out"):
        shown = pictures(M, split, range(5))
        assert (shown == render(scenes(M, split, range(5)))).all()


@pytest.mark.parametrize("split", ["noise", "jpeg"])
def test_spoilt_splits_depend_on_the_index_alone(split):
    together = pictures(M, split, [4, 0, 9])
    assert together.shape == (3, 64, 64, 3)
    assert together.dtype == np.uint8
    for row, index in enumerate((4, 0, 9)):
        assert (pictures(M, split, [index])[0] == together[row]).all()


@pytest.mark.parametrize("split", ["noise", "jpeg"])
def test_spoilt_pictures_are_near_the_clean_ones(split):
    clean = pictures(M, "iid", range(30)).astype(float)
    error = np.abs(pictures(M, split, range(30)) - clean).mean(axis=(1, 2, 3))
    assert (error > 0.5).all()
    assert (error < 30).all()


def test_noise_has_the_deviation_it_says():
    grey = np.full((20, 64, 64, 3), 128, dtype=np.uint8)
    added = noise(grey, indices=range(20)).astype(float) - 128
    assert added.mean() == pytest.approx(0, abs=0.3)
    assert added.std() == pytest.approx(NOISE_SIGMA, rel=0.02)
    assert noise(grey, indices=range(20), sigma=5.0).std() == pytest.approx(5, rel=0.02)


def test_noise_of_two_pictures_is_unrelated():
    grey = np.full((2, 64, 64, 3), 128, dtype=np.uint8)
    first, second = noise(grey, indices=[0, 1]).astype(float).reshape(2, -1)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05


def test_noise_is_cut_off_at_black_and_white():
    white = np.full((1, 64, 64, 3), 255, dtype=np.uint8)
    assert (noise(white, indices=[0]) == 255).mean() == pytest.approx(0.5, abs=0.05)


def test_better_jpeg_is_nearer():
    clean = pictures(M, "iid", range(10))
    errors = [np.abs(jpeg(clean, quality=q).astype(float) - clean).mean() for q in (5, 30, 90)]
    assert errors == sorted(errors, reverse=True)


def test_no_pictures_can_be_spoilt_too():
    for split in ("noise", "jpeg"):
        assert pictures(S, split, []).shape == (0, 64, 64, 3)


def test_made_files_are_the_scenes(tmp_path):
    listing = make(tmp_path / "new" / "out", world=M, split="iid", indices=[3, 8], register="tags")
    rows = [json.loads(line) for line in listing.read_text(encoding="utf-8").splitlines()]
    assert [row["path"] for row in rows] == ["000003.png", "000008.png"]
    for row, index in zip(rows, (3, 8), strict=True):
        scene = Scene.from_json(json.dumps(row["scene"]))
        assert scene == scenes(M, "iid", [index])[0]
        assert row["caption"] == caption(scene, "tags", variant=index)
        with Image.open(listing.parent / row["path"]) as shown:
            assert (np.asarray(shown) == render([scene])[0]).all()
    names = {path.name for path in listing.parent.iterdir()}
    assert names == {"000003.png", "000008.png", "captions.jsonl"}


def test_made_files_of_a_spoilt_split_are_spoilt(tmp_path):
    listing = make(tmp_path, world=S, split="noise", indices=[0], register="dense")
    with Image.open(listing.parent / "000000.png") as shown:
        assert (np.asarray(shown) == pictures(S, "noise", [0])[0]).all()


def test_captions_are_never_overwritten(tmp_path):
    make(tmp_path, world=S, split="iid", indices=[0], register="dense")
    with pytest.raises(UsageError, match=r"captions\.jsonl' exists already; choose another folder"):
        make(tmp_path, world=S, split="iid", indices=[1], register="dense")


def test_nothing_is_written_for_an_unknown_split(tmp_path):
    with pytest.raises(UsageError, match="no split named 'all' in world S"):
        make(tmp_path / "out", world=S, split="all", indices=[0], register="dense")
    assert not (tmp_path / "out").exists()


def test_the_command_writes_what_it_says(tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(main, [str(out), "--count", "3", "--register", "json"])
    assert result.exit_code == 0
    assert "3 pictures" in result.output
    lines = (out / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(parse(json.loads(line)["caption"], "json") for line in lines)
    assert len(lines) == 3


def test_the_command_reports_wrong_usage(tmp_path):
    result = CliRunner().invoke(main, [str(tmp_path), "--split", "every"])
    assert result.exit_code == 2
    assert "no split named 'every' in world S" in result.output
