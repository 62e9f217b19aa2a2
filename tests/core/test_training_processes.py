"""Two processes under `accelerate launch` train as one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.core.training_tasks import ToyTask
from vlv_core.training import checkpoint, log
from vlv_core.training.loop import train
from vlv_core.training.options import TrainOptions

ROOT = Path(__file__).parents[2]
OPTIONS = TrainOptions(steps=10, batch=9, lr=1e-2, log_every=1, accumulate=2, optimizer="muon")
UNREADABLE = range(18, 22)
"""a whole share of step 2 among them: that process has nothing to add"""

SCRIPT = """
import atexit
import os
import sys
from pathlib import Path
import torch
from tests.core.test_training_processes import OPTIONS, UNREADABLE
from tests.core.training_tasks import ToyTask
from vlv_core.training.loop import Diverged, train

# the first to be registered is the last to run
atexit.register(lambda: print(f"still joined: {torch.distributed.is_initialized()}"))
out = Path(sys.argv[1])
task = ToyTask(unreadable=UNREADABLE)
if os.environ["RANK"] == "1":
    torch.nn.init.zeros_(task.modules.hidden.weight)  # must be given the main process' weights
train(task, OPTIONS, out=out / "two")
try:
    train(ToyTask(poison=30), OPTIONS, out=out / "poisoned")
except Diverged as error:
    print(f"diverged: {error}")
assert os.environ["WORLD_SIZE"] == "2"
"""


def launch(folder: Path) -> str:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    launcher = "accelerate.commands.launch"
    flags = [
        "--num_processes",
        "2",
        "--multi_gpu",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
    ]
    flags += ["--dynamo_backend", "no", "--main_process_port", "0"]
    done = subprocess.run(
        [sys.executable, "-m", launcher, *flags, str(script), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run folder of two processes, and what they said."""
    folder = tmp_path_factory.mktemp("processes")
    return folder, launch(folder)


def test_same_losses_and_weights_as_one_process(launched: tuple[Path, str], tmp_path: Path) -> None:
    train(ToyTask(unreadable=UNREADABLE), OPTIONS, out=tmp_path)
    one = log.read(tmp_path / "metrics.jsonl")
    two = log.read(launched[0] / "two" / "metrics.jsonl")
    assert [row.step for row in one] == [row.step for row in two] == list(range(1, 11))
    assert [r.loss for r in one] == pytest.approx([r.loss for r in two], rel=1e-5)
    assert [r.grad_norm for r in one] == pytest.approx([r.grad_norm for r in two], rel=1e-3)
    mine = checkpoint.newest(tmp_path / "checkpoints")
    theirs = checkpoint.newest(launched[0] / "two" / "checkpoints")
    assert mine is not None and theirs is not None
    for name, weight in mine.weights.items():
        # Muon orthogonalises in bfloat16, which enlarges the last bits of a gradient
        assert torch.allclose(weight, theirs.weights[name], atol=2e-3), name


def test_processes_part_before_the_interpreter_ends(launched: tuple[Path, str]) -> None:
    assert launched[1].count("still joined: False") == 2


def test_both_processes_stop_at_nan_with_all_keys(launched: tuple[Path, str]) -> None:
    folder, said = launched
    assert said.count("diverged: toy: loss or gradient is not finite at step 3; the 9 ") == 2
    record = json.loads((folder / "poisoned" / "nan-batch.json").read_text())
    assert sorted(record["keys"]) == sorted(f"sample-{i}" for i in range(27, 36))
