"""Both stages train the same however the work is cut: batches, threads, stops, precision."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.core.training_parts import Pictures, TinyCondition, stage, tiny_vlv
from vlv_core.data.quarantine import Quarantine
from vlv_core.model import VLV
from vlv_core.protocols import Conditioning
from vlv_core.recipe import Stage
from vlv_core.training import checkpoint, log
from vlv_core.training.loop import train
from vlv_core.training.stages import Stage1Task, Stage2Task, StageTask
from vlv_core.training.task import Batch

KINDS: list[tuple[type[StageTask], tuple[str, ...]]] = [
    (Stage1Task, ("encoder", "bottleneck")),
    (Stage2Task, ("bottleneck", "connector", "head")),
]
IDS = ["stage1", "stage2"]
both = pytest.mark.parametrize(("kind", "parts"), KINDS, ids=IDS)


def task_of(
    kind: type[StageTask], settings: Stage, out: Path, model: VLV | None = None
) -> StageTask:
    quarantine = Quarantine(out / "quarantine.jsonl")
    return kind(model or tiny_vlv(), Pictures(), settings, quarantine=quarantine)


def run(kind: type[StageTask], settings: Stage, out: Path, *, resume: bool = False) -> StageTask:
    task = task_of(kind, settings, out)
    if settings.cache != "off":
        task.open_caches(out / "cache", config="")
    train(task, settings, out=out, resume=resume)
    return task


def without_dropout(task: StageTask) -> StageTask:
    """Dropout is drawn a micro-batch; without it any cut of the batch is the same sum."""
    for module in task.modules.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return task


def losses(out: Path) -> list[float]:
    return [row.loss for row in log.read(out / "metrics.jsonl")]


def weights(task: StageTask) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in task.model.named_parameters()}


@both
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_crash_changes_no_bit(
    tmp_path: Path, kind: type[StageTask], parts: tuple[str, ...], dtype: str
) -> None:
    """With dropout, averages, Muon, the cache and an unfinished epoch, all at once."""
    settings = stage(
        parts,
        dtype=dtype,
        ema=0.9,
        optimizer="muon",
        cache="require",
        checkpoint_every=4,
        accumulate=2,
        noise_samples=2,
    )
    whole = run(kind, settings, tmp_path / "whole")
    task = task_of(kind, settings, tmp_path / "killed")
    task.open_caches(tmp_path / "killed" / "cache", config="")
    ordinary = task.loss

    def crash(batch: Batch, *, step: int) -> tuple[Tensor, Tensor | float]:
        if step == 6:
            raise ZeroDivisionError("crash")
        return ordinary(batch, step=step)

    task.loss = crash  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError, match="crash"):
        train(task, settings, out=tmp_path / "killed")
    resumed = run(kind, settings, tmp_path / "killed", resume=True)
    for name, weight in weights(whole).items():
        assert torch.equal(weight, weights(resumed)[name]), name
    assert losses(tmp_path / "whole") == losses(tmp_path / "killed")


@both
def test_accumulation_is_the_big_batch(
    tmp_path: Path, kind: type[StageTask], parts: tuple[str, ...]
) -> None:
    """Captions differ in length: a mean of micro-batch means would weigh their words wrongly."""
    curves = []
    for accumulate in (1, 4):
        settings = stage(parts, accumulate=accumulate, noise_samples=2)
        out = tmp_path / str(accumulate)
        train(without_dropout(task_of(kind, settings, out)), settings, out=out)
        curves.append(losses(out))
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)


@both
def test_any_number_of_threads_reads_the_same(
    tmp_path: Path, kind: type[StageTask], parts: tuple[str, ...]
) -> None:
    curves = []
    for workers in (1, 4):
        run(kind, stage(parts, workers=workers), tmp_path / str(workers))
        curves.append(losses(tmp_path / str(workers)))
    assert curves[0] == curves[1]


@both
def test_bfloat16_follows_float32_on_float32_masters(
    tmp_path: Path, kind: type[StageTask], parts: tuple[str, ...]
) -> None:
    run(kind, stage(parts), tmp_path / "full")
    half = run(kind, stage(parts, dtype="bfloat16"), tmp_path / "half")
    assert losses(tmp_path / "half") == pytest.approx(losses(tmp_path / "full"), rel=0.05)
    assert {p.dtype for p in half.model.parameters()} == {torch.float32}
    found = checkpoint.newest(tmp_path / "half" / "checkpoints")
    assert found is not None
    assert {tensor.dtype for tensor in found.weights.values()} == {torch.float32}


@both
def test_another_seed_is_another_training(
    tmp_path: Path, kind: type[StageTask], parts: tuple[str, ...]
) -> None:
    for seed in (5, 6):
        run(kind, stage(parts, seed=seed, steps=3), tmp_path / str(seed))
    assert losses(tmp_path / "5") != losses(tmp_path / "6")


def test_frozen_dropout_never_speaks(tmp_path: Path) -> None:
    """With every trained part free of dropout, a loss is a function of weights and batch alone."""
    settings = stage(["bottleneck"])
    task = task_of(Stage1Task, settings, tmp_path)
    batch = task.batch(0, range(8))
    values = set()
    for seed in range(5):
        torch.manual_seed(seed)
        task.modules.train()
        values.add(task.loss(batch, step=0)[0].item())
    assert len(values) == 1


def test_gradient_flows_through_frozen_parts_and_stays_out_of_them(tmp_path: Path) -> None:
    task = task_of(Stage1Task, stage(["encoder", "bottleneck"]), tmp_path)
    task.loss(task.batch(0, range(8)), step=0)[0].backward()
    for name, parameter in task.model.named_parameters():
        trained = name.partition(".")[0] in ("encoder", "bottleneck")
        assert (parameter.grad is not None) == trained, name
        if trained:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_a_condition_without_pooled_trains_too(tmp_path: Path) -> None:
    class Plain(TinyCondition):
        def forward(self, z: Tensor) -> Conditioning:
            return Conditioning(super().forward(z).context, None)

    model = tiny_vlv()
    model.condition = Plain()
    settings = stage(["bottleneck"], noise_samples=3, steps=3)
    train(task_of(Stage1Task, settings, tmp_path, model), settings, out=tmp_path)
    assert len(losses(tmp_path)) == 3


def test_stage_1_s_loss_is_a_mean_that_more_draws_only_steady(tmp_path: Path) -> None:
    """The expected loss does not depend on the number of draws; its spread falls."""
    spread, mean = [], []
    for draws in (1, 16):
        task = task_of(Stage1Task, stage(["bottleneck"], noise_samples=draws), tmp_path)
        task.modules.eval()
        values = []
        for step in range(24):
            total, weight = task.loss(task.batch(step, range(8)), step=step)
            values.append(total.item() / weight)
        mean.append(sum(values) / len(values))
        spread.append(torch.tensor(values).std().item())
    assert mean[0] == pytest.approx(mean[1], rel=0.1)
    assert spread[1] < spread[0] / 2


def test_the_head_sees_the_prefix_alone(tmp_path: Path) -> None:
    """No prompt text: the loss of stage 2 is that of the head on prefix and caption ids."""
    model = tiny_vlv()
    task = task_of(Stage2Task, stage(["bottleneck", "connector", "head"]), tmp_path, model)
    task.modules.eval()
    batch = task.batch(0, range(8))
    prefix = model.read(model.encoder(batch.tensors["tokens.input"])).prefix
    due = model.head.loss(prefix, batch.tensors["ids"], batch.tensors["mask"]).sum()
    total, weight = task.loss(batch, step=0)
    assert total.item() == pytest.approx(due.item(), rel=1e-6)
    assert weight == batch.tensors["mask"].sum()
