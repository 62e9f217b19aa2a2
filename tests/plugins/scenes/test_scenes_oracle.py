"""The bundled oracle against the truth, on every split; and how oracles are made and loaded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.nn.functional import one_hot

from vlv_core.errors import ModelError
from vlv_plugins.scenes._oracle import Oracle, OracleNet, bundled, values_of
from vlv_plugins.scenes._oracle_task import FIRST, OracleTask, mixed, soften, spoil, targets
from vlv_plugins.scenes.facts import bound, facts_of
from vlv_plugins.scenes.pictures import pictures
from vlv_plugins.scenes.splits import scene_arrays, scenes
from vlv_plugins.scenes.train_oracle import main
from vlv_plugins.scenes.world import WORLDS, World

S, M = WORLDS["S"], WORLDS["M"]


def truth(world: World, split: str, count: int) -> list[Any]:
    """What an oracle should read, from the scenes themselves."""
    return [
        facts_of(map(bound, scene.objects), background=scene.background)
        for scene in scenes(world, split, range(count))
    ]


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle.load(S)


@pytest.mark.parametrize("split", ["iid", "held-out", "count", "mirrored"])
def test_the_bundled_oracle_reads_clean_renders(oracle: Oracle, split: str) -> None:
    """At least 99.5 % of all attributes, counted by hand: five a present object, cells and all."""
    read = oracle.read(pictures(S, split, range(400)))
    right = total = backgrounds = 0
    for seen, true in zip(read, truth(S, split, 400), strict=True):
        found = {item.cell: item for item in seen.objects}
        for item in true.objects:
            answer = found.pop(item.cell, None)
            total += len(item)
            right += 0 if answer is None else sum(map(str.__eq__, map(str, answer), map(str, item)))
        right -= len(found)  # objects where there are none
        backgrounds += seen.background == true.background
    assert right / total >= 0.995
    assert backgrounds == len(read)


@pytest.mark.parametrize(("split", "least"), [("noise", 0.95), ("jpeg", 0.85)])
def test_the_bundled_oracle_reads_spoilt_pictures(oracle: Oracle, split: str, least: float) -> None:
    """Scenes without one error; JPEG of quality 10 hides some from anybody."""
    read = oracle.read(pictures(S, split, range(200)))
    same = [seen == true for seen, true in zip(read, truth(S, split, 200), strict=True)]
    assert np.mean(same) > least


def test_an_empty_picture_holds_nothing(oracle: Oracle) -> None:
    [seen] = oracle.read(np.full((1, 64, 64, 3), 128, np.uint8))
    assert seen.objects == () and seen.background is not None
    assert seen.background.colours == ("grey",)


def test_a_picture_reads_the_same_in_any_batch(oracle: Oracle) -> None:
    shown = pictures(S, "iid", range(20))
    assert oracle.read(shown) == [oracle.read(shown[row : row + 1])[0] for row in range(20)]
    assert oracle.read(shown[:0]) == []


def test_the_bundled_file_is_small() -> None:
    assert bundled(S).stat().st_size <= 1_500_000


class Cheat(nn.Module):
    """A net that answers what `targets` asks for, as sure logits."""

    def __init__(self, world: World, answers: dict[str, Any]) -> None:
        super().__init__()
        self.values, self.answers = values_of(world), answers
        self.cells = nn.Linear(1, 1)

    def forward(self, given: Tensor) -> dict[str, Tensor]:
        logits = {"present": torch.from_numpy(self.answers["present"]).float() * 2 - 1}
        for name, words in {**self.values.cell, **self.values.background}.items():
            logits[name] = one_hot(torch.from_numpy(self.answers[name]), len(words)).float()
        return logits


@pytest.mark.parametrize(("world", "split"), [(S, "iid"), (S, "count"), (M, "iid"), (M, "count")])
def test_targets_and_reading_are_inverse(world: World, split: str) -> None:
    """The way from scenes to answers and back to facts, without any learning in between."""
    answers = targets(world, scene_arrays(world, split, range(200)))
    cheat: Any = Cheat(world, answers)
    assert Oracle(cheat).read(pictures(world, split, range(200))) == truth(world, split, 200)


def test_questions_are_those_of_the_world() -> None:
    logits = OracleNet(M, width=16, channels=4)(torch.zeros(2, 64, 64, 3, dtype=torch.uint8))
    shapes = {name: tuple(each.shape) for name, each in logits.items()}
    assert shapes == {
        "present": (2, 9),
        "shape": (2, 9, 10),
        "colour": (2, 9, 10),
        "size": (2, 9, 3),
        "fill": (2, 9, 4),
        "kind": (2, 6),
        "first": (2, 7),
        "second": (2, 7),
    }


def test_softening_is_each_sample_s_own() -> None:
    clean = torch.from_numpy(pictures(S, "iid", range(40)))
    whole = soften(clean, seed=1, step=5, keys=range(40))
    assert whole.dtype == torch.uint8 and whole.shape == clean.shape
    assert torch.equal(soften(clean[7:9], seed=1, step=5, keys=range(7, 9)), whole[7:9])
    assert not torch.equal(soften(clean, seed=1, step=6, keys=range(40)), whole)


def test_softening_spares_some_and_spoils_none() -> None:
    clean = torch.from_numpy(pictures(S, "iid", range(200)))
    harm = (soften(clean, seed=0, step=0, keys=range(200)).float() - clean.float()).abs()
    each = harm.mean(dim=(1, 2, 3))
    assert 0 < (each == 0).float().mean() < 0.2, "one in sixteen escapes all four kinds"
    assert each.max() < 25 and each.mean() > 1


@pytest.mark.parametrize(("world", "turns"), [(S, 3), (M, 4)])
def test_training_scenes_come_from_every_split_in_turn(world: World, turns: int) -> None:
    drawn = mixed(world, range(7, 31)).scenes()
    names = ("train-pixels", "held-out", "count", "relation")
    for position, scene in zip(range(7, 31), drawn, strict=True):
        [expected] = scenes(world, names[position % turns], [FIRST + position])
        assert scene == expected


def test_some_training_pictures_are_compressed() -> None:
    clean = pictures(S, "iid", range(80))
    softened = soften(torch.from_numpy(clean), seed=0, step=3, keys=range(80))
    spoilt = spoil(clean, seed=0, step=3, keys=range(80))
    compressed = (softened != spoilt).flatten(1).any(dim=1)
    assert 0.1 < compressed.float().mean() < 0.4
    assert torch.equal(spoil(clean[5:6], seed=0, step=3, keys=range(5, 6)), spoilt[5:6])


def test_the_loss_counts_attributes_of_present_objects_only() -> None:
    task = OracleTask(OracleNet(S, width=16, channels=4), S, seed=0)
    batch = task.batch(0, range(4))
    loss, weight = task.loss(batch, step=0)
    empty = ~batch.tensors["present"]
    for name in task.net.values.cell:
        batch.tensors[name][empty] = 0
    again, _ = task.loss(batch, step=0)
    assert weight == 4 and torch.equal(loss, again)
    assert len(batch.keys) == 4 and batch.keys[0] == "0"


def test_a_short_training_writes_an_oracle_that_loads(tmp_path: Path) -> None:
    out = tmp_path / "oracle.safetensors"
    options = ["--steps", "2", "--batch", "4", "-o", str(out), "--run", str(tmp_path / "run")]
    result = CliRunner().invoke(main, [*options, "--checked", "8"])
    assert result.exit_code == 0, result.output
    assert "scene_f1: " in result.output and "accuracy_shape: " in result.output
    assert len(Oracle.load(S, path=out).read(pictures(S, "iid", range(3)))) == 3


def test_an_oracle_of_another_world_is_refused() -> None:
    with pytest.raises(ModelError, match="reads world S version 1, not world M version 1"):
        Oracle.load(M, path=bundled(S))


def test_a_world_without_an_oracle() -> None:
    with pytest.raises(
        ModelError, match=r"no oracle of world M at oracle-m\.safetensors"
    ) as caught:
        Oracle.load(M)
    assert caught.value.hint is not None and "train_oracle --world M" in caught.value.hint
