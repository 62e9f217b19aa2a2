"""A killed or stopped training goes on as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.core.training_tasks import ToyTask
from vlv_core.errors import ConfigError
from vlv_core.training import checkpoint, log
from vlv_core.training.loop import train
from vlv_core.training.options import TrainOptions
from vlv_core.training.task import Batch

ROOT = Path(__file__).parents[2]
OPTIONS = TrainOptions(
    steps=60,
    batch=8,
    lr=1e-2,
    warmup_steps=5,
    ema=0.9,
    optimizer="muon",
    accumulate=2,
    log_every=4,
    checkpoint_every=7,
    workers=2,
)
SCRIPT = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from tests.core.test_training_resume import OPTIONS
    from tests.core.training_tasks import ToyTask
    from vlv_core.training.loop import train

    class Slow(ToyTask):
        def loss(self, batch, *, step):
            print(step, flush=True)
            time.sleep(0.01)
            return super().loss(batch, step=step)

    result = train(Slow(), OPTIONS, out=Path(sys.argv[1]), resume=True, identity={"lr": 1e-2})
    print("complete" if result.complete else f"stopped at {result.step}", flush=True)
    """
)


def start(out: Path) -> "subprocess.Popen[str]":
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(out)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )


def wait_for(process: "subprocess.Popen[str]", step: int) -> None:
    assert process.stdout is not None
    for text in process.stdout:
        if text.strip() == str(step):
            return
    raise AssertionError(f"ended before step {step}")


def assert_same_as_uninterrupted(out: Path, tmp_path: Path) -> None:
    """Resume in this process; weights, averages, moments and the log must be those of one go."""
    resumed, whole = ToyTask(), ToyTask()
    assert train(resumed, OPTIONS, out=out, resume=True, identity={"lr": 1e-2}).complete
    train(whole, OPTIONS, out=tmp_path / "whole", identity={"lr": 1e-2})
    for a, b in zip(resumed.modules.parameters(), whole.modules.parameters(), strict=True):
        assert torch.equal(a, b)
    one = checkpoint.newest(out / "checkpoints")
    other = checkpoint.newest(tmp_path / "whole" / "checkpoints")
    assert one is not None and other is not None and one.step == other.step == 60
    for table in ("weights", "optimizer", "ema"):
        left, right = getattr(one, table), getattr(other, table)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left)
    steps = [row.step for row in log.read(out / "metrics.jsonl")]
    assert steps == sorted(set(steps)) and steps[-1] == 60


def test_kill_9_at_a_random_step(tmp_path: Path) -> None:
    out = tmp_path / "killed"
    process = start(out)
    wait_for(process, random.randrange(9, 55))
    time.sleep(random.random() * 0.03)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert_same_as_uninterrupted(out, tmp_path)


def test_a_signal_writes_a_checkpoint_of_the_very_step(tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    process = start(out)
    wait_for(process, 24)
    process.send_signal(signal.SIGINT)
    rest = process.communicate()[0].split("\n")
    assert process.returncode == 0
    at = int(next(text for text in rest if text.startswith("stopped at")).split()[-1])
    found = checkpoint.newest(out / "checkpoints")
    assert found is not None and found.step == at and 25 <= at < 60
    assert_same_as_uninterrupted(out, tmp_path)


def test_a_corrupt_newest_checkpoint_falls_back_and_ends_the_same(tmp_path: Path) -> None:
    out = tmp_path / "corrupt"

    class Crashing(ToyTask):
        def loss(self, batch: Batch, *, step: int) -> tuple[Tensor, float]:
            if step == 30:
                raise ZeroDivisionError("crash")
            return super().loss(batch, step=step)

    with pytest.raises(ZeroDivisionError, match="crash"):
        train(Crashing(), OPTIONS, out=out, identity={"lr": 1e-2})
    newest = checkpoint.steps(out / "checkpoints")[0]
    assert newest.name == "step-00000028"
    (newest / "optimizer.safetensors").write_bytes(b"cut")
    assert_same_as_uninterrupted(out, tmp_path)


def test_another_recipe_is_refused(tmp_path: Path) -> None:
    train(ToyTask(), OPTIONS, out=tmp_path, identity={"stage1.lr": 1e-2, "data.name": "a"})
    with pytest.raises(ConfigError, match=r"data\.name: 'a' there, 'b' here$"):
        train(
            ToyTask(),
            OPTIONS,
            out=tmp_path,
            resume=True,
            identity={"stage1.lr": 1e-2, "data.name": "b"},
        )


def test_resume_of_nothing_starts_at_zero(tmp_path: Path) -> None:
    assert train(ToyTask(), OPTIONS, out=tmp_path, resume=True).complete
