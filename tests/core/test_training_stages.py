"""The two stages: what learns, what stands still, what counts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.core.training_parts import EOS, SIZE, Pictures, stage, tiny_vlv
from vlv_core.data.quarantine import Quarantine
from vlv_core.errors import ConfigError, DataError
from vlv_core.model import VLV
from vlv_core.training import checkpoint, log
from vlv_core.training.freeze import StageModules, freeze_table
from vlv_core.training.loop import train
from vlv_core.training.stages import Stage1Task, Stage2Task, StageTask


def task_of(
    number: int, model: VLV, tmp_path: Path, *, data: Pictures | None = None, **changes: object
) -> StageTask:
    names = {1: ["encoder", "bottleneck"], 2: ["connector", "head"]}[number]
    settings = stage(changes.pop("train", names), **changes)  # type: ignore[arg-type]
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    kind = {1: Stage1Task, 2: Stage2Task}[number]
    return kind(model, data or Pictures(), settings, quarantine=quarantine)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def part(name: str) -> str:
    return name.partition(".")[0]


CASES = [
    (1, ("encoder", "bottleneck")),
    (1, ("bottleneck",)),
    (1, ("encoder.block", "bottleneck")),
    (2, ("connector", "head")),
    (2, ("encoder", "bottleneck", "connector", "head")),
    (2, ("connector", "head.lm_head")),
]


@pytest.mark.parametrize(("number", "names"), CASES)
def test_frozen_parts_are_untouched_and_absent_from_checkpoints(
    tmp_path: Path, number: int, names: tuple[str, ...]
) -> None:
    model = tiny_vlv()
    before = weights(model)
    task = task_of(number, model, tmp_path, train=names)
    train(task, task.stage, out=tmp_path)
    moved = {
        name for name, weight in weights(model).items() if not torch.equal(weight, before[name])
    }
    due = {name for name in before if any(name.startswith(f"{entry}.") for entry in names)}
    assert moved == due
    found = checkpoint.newest(tmp_path / "checkpoints")
    assert found is not None and set(found.weights) == due
    assert {key.rpartition("/")[0] for key in found.optimizer} == due


@pytest.mark.parametrize(("number", "names"), CASES)
def test_frozen_parts_stay_in_eval_mode_whatever_train_is_called(
    tmp_path: Path, number: int, names: tuple[str, ...]
) -> None:
    model = tiny_vlv()
    task = task_of(number, model, tmp_path, train=names)
    for _ in range(2):
        task.modules.train()
        for name, module in model.named_modules():
            trains = any(name == entry or name.startswith(f"{entry}.") for entry in names)
            if part(name) in task.modules.parts:
                assert module.training == trains, name
        task.modules.eval()
        assert not any(module.training for module in task.modules.modules())


def test_stage_1_does_not_touch_connector_and_head(tmp_path: Path) -> None:
    task = task_of(1, tiny_vlv(), tmp_path)
    assert list(task.modules.parts) == ["encoder", "bottleneck", "condition", "diffusion"]


def test_the_freeze_table() -> None:
    rows = {
        row.part: row for row in freeze_table(tiny_vlv(), ["encoder.block", "bottleneck"], stage=1)
    }
    assert {name: row.state for name, row in rows.items()} == {
        "encoder": "trained in part",
        "bottleneck": "trained",
        "condition": "frozen",
        "diffusion": "frozen",
        "connector": "not used",
        "head": "not used",
    }
    assert rows["encoder"].parameters == (48 * 16 + 16) + (16 * 16 + 16)
    assert rows["encoder"].trainable == 16 * 16 + 16


def test_a_prefix_that_names_nothing_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"'encoder\.blok' names no parameter; did you mean 'encoder\.block'"
    ):
        StageModules(tiny_vlv(), ["encoder.blok"], stage=1)


@pytest.mark.parametrize("number", [1, 2])
def test_it_learns(tmp_path: Path, number: int) -> None:
    names = {1: ("encoder", "bottleneck"), 2: ("encoder", "bottleneck", "connector", "head")}
    task = task_of(number, tiny_vlv(), tmp_path, train=names[number], steps=90, lr=3e-2)
    train(task, task.stage, out=tmp_path)
    curve = [row.loss for row in log.read(tmp_path / "metrics.jsonl")]
    drop = np.mean(curve[-9:]) / np.mean(curve[:3])
    assert drop < {1: 0.99, 2: 0.6}[number]


def test_stage_1_is_the_diffusion_s_loss_with_noise_keyed_by_sample(tmp_path: Path) -> None:
    """The same sample draws the same noise in any batch, and its loss is what the parts say."""
    task = task_of(1, tiny_vlv(), tmp_path, train=["bottleneck"])
    task.modules.eval()
    whole = task.batch(2, range(16, 24))
    parts = [task.batch(2, range(16, 19)), task.batch(2, range(19, 24))]
    for name in ("noise", "u", "posterior"):
        assert torch.equal(whole.tensors[name], torch.cat([p.tensors[name] for p in parts]))
    other = task.batch(3, range(16, 24))
    assert not torch.equal(whole.tensors["noise"], other.tensors["noise"])
    total = task.loss(whole, step=2)[0]
    split = sum(task.loss(p, step=2)[0] for p in parts)
    assert total.item() == pytest.approx(split.item(), rel=1e-6)  # type: ignore[union-attr]


def test_noise_samples_average_over_draws_and_encode_once(tmp_path: Path) -> None:
    model = tiny_vlv()
    task = task_of(1, model, tmp_path, train=["encoder", "bottleneck"], noise_samples=3)
    task.modules.eval()
    batch = task.batch(0, range(8))
    model.encoder.pictures = 0
    total, weight = task.loss(batch, step=0)
    assert model.encoder.pictures == 8 and weight == 8.0
    t, diffusion = batch.tensors, model.diffusion
    latents = diffusion.latents(diffusion.moments(t["moments.input"]), t["posterior"])
    conditioning = model.condition(model.bottleneck(model.encoder(t["pixels"])))
    draws = [
        diffusion.loss(latents, conditioning, noise=t["noise"][:, r], t=t["u"][:, r]).sum()
        for r in range(3)
    ]
    assert total.item() == pytest.approx(sum(draws).item() / 3, rel=1e-5)  # type: ignore[union-attr]
    strata = (t["u"] * 3).floor()
    assert torch.equal(strata, torch.tensor([0.0, 1.0, 2.0]).expand(8, 3))


def test_a_batch_of_stage_2_is_padded_to_its_longest_only(tmp_path: Path) -> None:
    task = task_of(2, tiny_vlv(), tmp_path, batch=3, data=Pictures(4))
    lengths = {
        tuple(sorted(task.batch(0, range(at, at + 1)).tensors["ids"].shape)) for at in range(4)
    }
    assert lengths == {(1, 2), (1, 3), (1, 4), (1, 5)}
    both = task.batch(0, range(4)).tensors
    assert both["ids"].shape == (4, 5) and both["mask"].sum() == 2 + 3 + 4 + 5


def test_end_of_text_is_supervised_and_padding_is_not(tmp_path: Path) -> None:
    model = tiny_vlv()
    task = task_of(2, model, tmp_path)
    task.modules.eval()
    batch = task.batch(0, range(8))
    ids, mask = batch.tensors["ids"], batch.tensors["mask"]
    ends = [int(row[keep][-1]) for row, keep in zip(ids, mask, strict=True)]
    assert ends == [EOS] * 8
    seen: list[Tensor] = []
    logits = model.head.logits

    def watched(prefix: Tensor, words: Tensor) -> Tensor:
        seen.append(logits(prefix, words))
        seen[-1].retain_grad()
        return seen[-1]

    model.head.logits = watched
    total, weight = task.loss(batch, step=0)
    total.backward()
    assert weight == mask.sum()
    touched = seen[0].grad.abs().sum(-1) > 0  # type: ignore[union-attr]
    assert torch.equal(touched, mask)


def test_a_trained_head_stops_by_itself(tmp_path: Path) -> None:
    """One caption, learned by heart: after its last word comes end of text, and not before."""
    model = tiny_vlv()
    task = task_of(2, model, tmp_path, data=Pictures(4), batch=4, steps=150, lr=3e-2)
    train(task, task.stage, out=tmp_path)
    batch = task.batch(0, range(4))
    task.modules.eval()
    context = task._run_passes(batch.tensors, step=0)["context"]
    best = model.head.logits(model.connector(context), batch.tensors["ids"]).argmax(-1)
    mask = batch.tensors["mask"]
    at_end = mask & ~torch.cat([mask[:, 1:], torch.zeros(4, 1, dtype=torch.bool)], dim=1)
    assert (best[at_end] == EOS).all()


def test_unreadable_pictures_are_counted_and_never_replaced(tmp_path: Path) -> None:
    data = Pictures(24, broken=[3, 17])
    task = task_of(1, tiny_vlv(), tmp_path, data=data, steps=6)
    seen: list[str] = []
    build = task.batch
    task.batch = lambda *at: (seen.extend((made := build(*at)).keys), made)[1]  # type: ignore[method-assign]
    train(task, task.stage, out=tmp_path)
    assert sorted(set(seen)) == sorted(f"picture-{i}" for i in range(24) if i not in (3, 17))
    assert len(seen) == 2 * 22
    rows = [json.loads(row) for row in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert sorted(row["key"] for row in rows) == ["picture-17", "picture-3"]
    assert {row["reason"] for row in rows} == {"truncated"}
    assert len(task.quarantine) == 2


def test_a_sample_without_a_caption_is_refused_in_stage_2(tmp_path: Path) -> None:
    task = task_of(2, tiny_vlv(), tmp_path, data=Pictures(captions=False))
    with pytest.raises(DataError, match=r"8 samples have none, such as 'picture-\d+'"):
        task.batch(0, range(8))


def test_stage_1_without_a_diffusion_is_refused(tmp_path: Path) -> None:
    model = tiny_vlv()
    model.diffusion = None
    with pytest.raises(ConfigError, match="stage 1 needs the decoder's diffusion"):
        task_of(1, model, tmp_path)


def test_every_epoch_sees_every_picture_once(tmp_path: Path) -> None:
    task = task_of(2, tiny_vlv(), tmp_path)
    for epoch in range(2):
        steps = range(3 * epoch, 3 * epoch + 3)
        keys = [key for s in steps for key in task.batch(s, range(8 * s, 8 * s + 8)).keys]
        assert sorted(keys) == sorted(f"picture-{i}" for i in range(24))


def test_the_encoder_gets_pixels_of_its_own_size(tmp_path: Path) -> None:
    model = tiny_vlv()
    assert task_of(1, model, tmp_path).batch(0, range(2)).tensors["pixels"].shape == (
        2,
        SIZE,
        SIZE,
        3,
    )


def test_one_run_after_another_is_the_same(tmp_path: Path) -> None:
    results = []
    for name in ("a", "b"):
        model = tiny_vlv()
        task = task_of(1, model, tmp_path / name)
        train(task, task.stage, out=tmp_path / name)
        results.append(weights(model))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
