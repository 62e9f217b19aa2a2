"""The loop: what a step is, what it reports, and how it stops."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.core.training_tasks import Toy, ToyTask
from vlv_core.errors import UsageError
from vlv_core.prefetch import prefetch
from vlv_core.training import checkpoint, log
from vlv_core.training.loop import Diverged, Result, train
from vlv_core.training.options import TrainOptions
from vlv_core.training.schedule import learning_rate
from vlv_core.training.task import Batch, positions


def options(**changes: object) -> TrainOptions:
    defaults = {"steps": 12, "batch": 8, "lr": 1e-2, "log_every": 1}
    return TrainOptions(**{**defaults, **changes})  # type: ignore[arg-type]


def weights(task: ToyTask) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in task.modules.named_parameters()}


def losses(out: Path) -> list[float]:
    return [row.loss for row in log.read(out / "metrics.jsonl")]


def test_shares_cover_the_global_batch_once() -> None:
    for batch in (1, 7, 8, 30):
        shares = [
            positions(5, batch=batch, micro=m, accumulate=3, rank=r, world=2)
            for m in range(3)
            for r in range(2)
        ]
        assert [p for share in shares for p in share] == list(range(5 * batch, 6 * batch))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_every_step_is_plain_adamw_on_the_mean_loss(tmp_path: Path) -> None:
    """Against a loop of six lines, written without anything of ours but the task."""
    train(ToyTask(), settings := options(steps=5, clip=0.1), out=tmp_path)
    task = ToyTask()
    parameters = list(task.modules.parameters())
    reference = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.01},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=1e-2,
        betas=settings.betas,
    )
    for step in range(5):
        for group in reference.param_groups:
            group["lr"] = learning_rate(step, peak=1e-2, steps=5, schedule="cosine")
        total, weight = task.loss(task.batch(step, range(step * 8, step * 8 + 8)), step=step)
        reference.zero_grad()
        (total / weight).backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 0.1)
        reference.step()
        row = log.read(tmp_path / "metrics.jsonl")[step]
        assert row.loss == pytest.approx(total.item() / 8, rel=1e-5)
        assert row.grad_norm == pytest.approx(norm.item(), rel=1e-4)
    found = checkpoint.newest(tmp_path / "checkpoints")
    assert found is not None
    for name, parameter in task.modules.named_parameters():
        assert torch.allclose(found.weights[name], parameter, atol=1e-6), name


@pytest.mark.parametrize("accumulate", [2, 3, 8])
def test_accumulation_equals_the_big_batch(tmp_path: Path, accumulate: int) -> None:
    one, many = ToyTask(), ToyTask()
    train(one, options(), out=tmp_path / "one")
    train(many, options(accumulate=accumulate), out=tmp_path / "many")
    assert losses(tmp_path / "one") == pytest.approx(losses(tmp_path / "many"), rel=1e-5)
    for name, weight in weights(one).items():
        assert torch.allclose(weight, weights(many)[name], atol=1e-5), name


def test_it_learns(tmp_path: Path) -> None:
    for kind in ("adamw", "muon"):
        train(ToyTask(), options(steps=80, optimizer=kind), out=tmp_path / kind)
        curve = losses(tmp_path / kind)
        assert curve[-1] < 0.6 * curve[0], kind


def test_bfloat16_computes_in_half_and_keeps_float32_masters(tmp_path: Path) -> None:
    seen: set[torch.dtype] = set()
    task = ToyTask()
    task.modules.lm_head.register_forward_hook(lambda m, i, out: seen.add(out.dtype))
    train(task, options(dtype="bfloat16", lr=1e-5, steps=20), out=tmp_path)
    assert seen == {torch.bfloat16}
    assert {p.dtype for p in task.modules.parameters()} == {torch.float32}
    moved = weights(task)["hidden.weight"] - Toy().hidden.weight
    assert (moved != 0).float().mean() > 0.99, "an update of 1e-5 must not round away"


def test_averaged_weights_are_left_in_the_model_and_raw_ones_in_the_checkpoint(
    tmp_path: Path,
) -> None:
    plain, averaged = ToyTask(), ToyTask()
    train(plain, options(), out=tmp_path / "plain")
    train(averaged, options(ema=0.5), out=tmp_path / "averaged")
    found = checkpoint.newest(tmp_path / "averaged" / "checkpoints")
    assert found is not None
    for name, weight in weights(averaged).items():
        assert torch.equal(weight, found.ema[name])
        assert torch.equal(found.weights[name], weights(plain)[name])
    assert not torch.equal(weights(averaged)["hidden.weight"], weights(plain)["hidden.weight"])


@pytest.mark.parametrize("log_every", [1, 4, 12])
def test_nan_stops_with_the_batch_s_keys(tmp_path: Path, log_every: int) -> None:
    with pytest.raises(Diverged, match=r"toy: loss or gradient is not finite at step 5; the 8 "):
        train(ToyTask(poison=42), options(log_every=log_every), out=tmp_path)
    record = json.loads((tmp_path / "nan-batch.json").read_text())
    assert record == {"task": "toy", "step": 5, "keys": [f"sample-{i}" for i in range(40, 48)]}


def test_nan_never_reaches_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="step 5"):
        train(
            ToyTask(poison=42),
            options(log_every=12, checkpoint_every=3, keep_checkpoints=9),
            out=tmp_path,
        )
    found = checkpoint.newest(tmp_path / "checkpoints")
    assert found is not None and found.step == 3
    assert all(torch.isfinite(weight).all() for weight in found.weights.values())


def test_an_infinite_gradient_under_a_finite_loss_stops_too(tmp_path: Path) -> None:
    class Steep(ToyTask):
        def loss(self, batch: Batch, *, step: int) -> tuple[Tensor, float]:
            total, weight = super().loss(batch, step=step)
            return total + (self.modules.norm.bias * 0).abs().sqrt().sum(), weight

    with pytest.raises(Diverged, match="not finite at step 0"):
        train(Steep(), options(), out=tmp_path)


def test_unreadable_samples_leave_the_mean_of_the_others(tmp_path: Path) -> None:
    task = ToyTask(unreadable=range(1, 8))
    train(task, options(steps=1), out=tmp_path / "one-left")
    total, weight = ToyTask().loss(ToyTask().batch(0, range(1)), step=0)
    assert losses(tmp_path / "one-left") == pytest.approx([total.item()], rel=1e-6)
    assert weight == 1.0


def test_a_wholly_unreadable_batch_moves_nothing(tmp_path: Path) -> None:
    task = ToyTask(unreadable=range(0, 8))
    train(task, options(steps=1, weight_decay=0.0), out=tmp_path)
    for name, weight in Toy().named_parameters():
        assert torch.equal(weights(task)[name], weight), name


def test_one_row_of_metrics_a_log_step(tmp_path: Path) -> None:
    lines: list[str] = []
    train(
        ToyTask(), options(log_every=5, checkpoint_every=100), out=tmp_path, progress=lines.append
    )
    rows = log.read(tmp_path / "metrics.jsonl")
    assert [row.step for row in rows] == [5, 10, 12]
    assert rows[0].lr == learning_rate(4, peak=1e-2, steps=12, schedule="cosine")
    assert rows[0].seconds < rows[1].seconds < rows[2].seconds
    assert all(row.pictures_per_s > 0 for row in rows)
    assert [text.split()[:2] for text in lines] == [["toy", f"{n}/12"] for n in (5, 10, 12)]
    assert "pictures/s" in lines[0] and "left" in lines[0] and "GiB" in lines[0]


def test_a_logged_loss_is_the_mean_since_the_last_row(tmp_path: Path) -> None:
    train(ToyTask(), options(), out=tmp_path / "each")
    train(ToyTask(), options(log_every=4), out=tmp_path / "four")
    each = losses(tmp_path / "each")
    expected = [sum(each[i : i + 4]) / 4 for i in (0, 4, 8)]
    assert losses(tmp_path / "four") == pytest.approx(expected, rel=1e-5)


def test_the_strip_sees_averaged_weights(tmp_path: Path) -> None:
    task = ToyTask()
    seen: list[tuple[int, Tensor]] = []
    train(
        task,
        options(ema=0.9, strip_every=6),
        out=tmp_path,
        strip=lambda step: seen.append((step, weights(task)["hidden.weight"])),
    )
    assert [step for step, _ in seen] == [6, 12]
    assert torch.equal(seen[1][1], weights(task)["hidden.weight"]), "the averaged ones, at the end"


def test_a_used_folder_is_refused_without_resume(tmp_path: Path) -> None:
    train(ToyTask(), options(), out=tmp_path)
    with pytest.raises(UsageError, match="already holds checkpoints of a training"):
        train(ToyTask(), options(), out=tmp_path)


def test_a_finished_training_resumes_to_itself(tmp_path: Path) -> None:
    first, second = ToyTask(), ToyTask()
    assert train(first, options(ema=0.9), out=tmp_path) == Result(12, True, losses(tmp_path)[-1])
    assert train(second, options(ema=0.9), out=tmp_path, resume=True).complete
    for name, weight in weights(first).items():
        assert torch.equal(weight, weights(second)[name])


def test_dropout_is_a_function_of_the_step(tmp_path: Path) -> None:
    class Dropping(ToyTask):
        def loss(self, batch: Batch, *, step: int) -> tuple[Tensor, float]:
            total, weight = super().loss(batch, step=step)
            return total * torch.nn.functional.dropout(torch.ones(()), 0.5), weight

    for name, steps in (("a", 12), ("b", 12)):
        torch.rand(len(name))
        train(Dropping(), options(steps=steps), out=tmp_path / name)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert 0 < sum(loss == 0 for loss in losses(tmp_path / "a")) < 12


def test_denormals_are_flushed_while_it_trains_and_no_longer(tmp_path: Path) -> None:
    smallest = torch.tensor([1e-40])
    seen: list[float] = []

    class Watching(ToyTask):
        def loss(self, batch: Batch, *, step: int) -> tuple[Tensor, Tensor | float]:
            seen.append(float(smallest * 1.0))
            return super().loss(batch, step=step)

    train(Watching(), options(steps=1), out=tmp_path)
    assert seen == [0.0] and float(smallest * 1.0) > 0


def test_batches_are_built_on_one_thread_each_and_the_step_keeps_its_own(tmp_path: Path) -> None:
    seen: dict[str, set[int]] = {"batch": set(), "loss": set()}

    class Counted(ToyTask):
        def batch(self, step: int, positions: range) -> Batch:
            seen["batch"].add(torch.get_num_threads())
            return super().batch(step, positions)

        def loss(self, batch: Batch, *, step: int) -> tuple[Tensor, float]:
            seen["loss"].add(torch.get_num_threads())
            return super().loss(batch, step=step)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        train(Counted(), options(steps=4), out=tmp_path)
        with ThreadPoolExecutor(1) as pool:
            afterwards = pool.submit(torch.get_num_threads).result()
    finally:
        torch.set_num_threads(before)
    assert seen == {"batch": {1}, "loss": {2}}
    assert afterwards == 2


def test_prefetch_keeps_order_bounds_memory_and_raises_in_turn() -> None:
    built: list[int] = []

    def build(step: int, at: range) -> int:
        built.append(step)
        if step == 6:
            raise OSError("disk gone")
        return step

    batches = prefetch(build, [(step, range(1)) for step in range(20)], workers=3)
    assert next(batches) == 0
    assert max(built) <= 3, "one in hand, at most three waiting"
    assert [next(batches) for _ in range(5)] == [1, 2, 3, 4, 5]
    with pytest.raises(OSError, match="disk gone"):
        next(batches)
    assert max(built) <= 9
