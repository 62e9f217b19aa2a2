"""The one training loop. It knows tasks, not models; `stages` says what the tasks are.

Everything random is a function of (seed, step, sample), so step and tensors are the whole state:
a killed run resumes bit for bit, and N processes train as one does.
"""

import atexit
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast, gather_object
from torch import Tensor

from vlv_core.errors import UsageError, VlvError
from vlv_core.interrupt import StopRequest
from vlv_core.prefetch import prefetch
from vlv_core.training import checkpoint, gradients
from vlv_core.training.board import Board
from vlv_core.training.ema import Ema
from vlv_core.training.log import Metrics, MetricsFile, line
from vlv_core.training.optim import Optimizer
from vlv_core.training.options import TrainOptions
from vlv_core.training.schedule import learning_rate
from vlv_core.training.task import Batch, Task, positions
from vlv_core.training.window import Reading, Window

Progress = Callable[[str], None]
Strip = Callable[[int], None]


@dataclass(frozen=True)
class Result:
    """How a training ended. If it is complete, the modules hold the averaged weights (`ema`)."""

    step: int
    """updates made"""
    complete: bool
    """False if a signal stopped it; a checkpoint was written"""
    loss: float
    """of the last log row; NaN if there was none"""
    signal: int | None = None
    """the one that stopped it, where this process got it"""


class Diverged(VlvError):
    """The loss or a gradient became NaN or infinite."""


def accelerate_on(device: str) -> Accelerator:
    """Processes as `accelerate launch` started them, or this one alone, on "auto", "cpu" or "cuda".

    `accelerate launch --multi_gpu` also starts several CPU processes (its `--cpu` starts one).
    The processes part when the interpreter ends: threads of gloo that outlive it abort the process
    (pytorch#190489).
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {device}, but torch sees no CUDA device", hint="use cpu")
    # the loop casts by itself; a mixed precision set by the launcher would come on top of it
    made = Accelerator(cpu=device == "cpu" or not torch.cuda.is_available(), mixed_precision="no")
    atexit.register(PartialState().destroy_process_group)
    return made


def train(
    task: Task,
    options: TrainOptions,
    *,
    out: Path,
    resume: bool = False,
    identity: Mapping[str, Any] | None = None,
    accelerator: Accelerator | None = None,
    progress: Progress | None = None,
    strip: Strip | None = None,
) -> Result:
    """Train `task` and leave its weights in its modules; run files go to `out`.

    `identity` is the flat recipe, which a resumed checkpoint must share. `progress` takes a line
    at each log step; `strip` the step, every `strip_every` steps, averaged weights in place. The
    loop never calls modules.train() or eval(): a task knows which of its parts are frozen.

    Raises Diverged; ConfigError if the checkpoint in `out` is of another recipe; UsageError if
    there is one and `resume` is False.
    """
    trainer = Trainer(
        task,
        options,
        out=out,
        identity=dict(identity or {}),
        accelerator=accelerator or accelerate_on("auto"),
    )
    trainer.restore(resume=resume)
    return trainer.run(progress=progress, strip=strip)


class Trainer:
    """One training in progress."""

    def __init__(
        self,
        task: Task,
        options: TrainOptions,
        *,
        out: Path,
        identity: dict[str, Any],
        accelerator: Accelerator,
    ) -> None:
        self.task, self.options, self.out, self.identity = task, options, out, identity
        self.accelerator, self.device = accelerator, accelerator.device
        task.modules.to(self.device)
        if accelerator.num_processes > 1:
            broadcast([tensor.data for tensor in task.modules.state_dict().values()])
        self.named = task.trainable()
        self.parameters = [parameter for _, parameter in self.named]
        self.optimizer = Optimizer(self.named, modules=task.modules, options=options)
        self.ema = Ema(self.named, decay=options.ema) if options.ema else None
        self.window = Window(self.device)
        self.step = 0
        self.saved_at = -1
        self.loss = float("nan")

    def restore(self, *, resume: bool) -> None:
        """Continue from the newest valid checkpoint, if there is one."""
        folder = self.out / "checkpoints"
        if not resume and checkpoint.steps(folder):
            raise UsageError(
                f"'{self.out}' already holds checkpoints of a training",
                hint="--resume continues it; another run folder starts afresh",
            )
        found = checkpoint.newest(folder)
        if found is None:
            return
        checkpoint.check_identity(found.identity, self.identity, folder=self.out)
        checkpoint.copy_weights(found.weights, self.named)
        self.optimizer.load(found.optimizer)
        if self.ema:
            self.ema.load(found.ema)
        self.step = self.saved_at = found.step

    def run(self, *, progress: Progress | None, strip: Strip | None) -> Result:
        """All steps that are left, or those until a signal."""
        steps, main = self.options.steps, self.accelerator.is_main_process
        self.metrics = MetricsFile(
            self.out / "metrics.jsonl",
            resume_at=self.step,
            active=main,
        )
        self.board = Board(self.out / "tensorboard", resume_at=self.step, active=main)
        batches = prefetch(
            self._batch, self._jobs(), workers=self.options.workers, begin=_one_thread
        )
        ends = contextlib.closing(batches), contextlib.closing(self.board)
        with _threads_kept(), ends[0], ends[1], _no_denormals(), StopRequest() as stop:
            while self.step < steps and not self._stopping(stop):
                self._update(batches)
                self._report(progress=progress, strip=strip)
        if self.step < steps:
            self._save()
        elif self.ema:
            self.ema.apply()
        return Result(self.step, self.step == steps, self.loss, stop.number)

    def _update(self, batches: Iterator[Batch]) -> None:
        """One step: the micro-batches, their sum over processes, the optimiser."""
        total = torch.zeros(2, device=self.device)
        keys: tuple[str, ...] = ()
        for micro in range(self.options.accumulate):
            batch = next(batches)
            keys += batch.keys
            if batch.keys:
                loss, weight = self._loss(batch, micro=micro)
                loss.backward()
                total[0] += loss.detach()
                total[1] += weight
        total = self.accelerator.reduce(total, reduction="sum")
        grads = gradients.gather(self.parameters, accelerator=self.accelerator)
        norm = gradients.scale_and_clip(grads, weight=total[1], clip=self.options.clip)
        self.optimizer.step(self._rate(self.step))
        for parameter in self.parameters:
            parameter.grad = None
        if self.ema:
            self.ema.update(self.step)
        self.window.add(self.step, keys=keys, total=total, norm=norm)
        self.step += 1

    def _loss(self, batch: Batch, *, micro: int) -> tuple[Tensor, Tensor | float]:
        tensors = {k: t.to(self.device, non_blocking=True) for k, t in batch.tensors.items()}
        # dropout in a trained part draws from torch's own stream: make it a function of the step
        share = micro * self.accelerator.num_processes + self.accelerator.process_index
        torch.manual_seed((self.options.seed << 40) ^ (self.step << 12) ^ share)
        half = self.options.dtype == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            return self.task.loss(Batch(batch.keys, tensors), step=self.step)

    def _report(self, *, progress: Progress | None, strip: Strip | None) -> None:
        """After a step, what is due: log row, checkpoint, strip."""
        options, last = self.options, self.step == self.options.steps
        saves = last or self.step % options.checkpoint_every == 0
        if saves or self.step % options.log_every == 0:
            self._log(self.window.read(), progress=progress)
        if saves:
            self._save()
        if strip and options.strip_every and self.step % options.strip_every == 0:
            with self.ema.applied() if self.ema else contextlib.nullcontext():
                strip(self.step)

    def _log(self, reading: Reading, *, progress: Progress | None) -> None:
        if reading.bad_step is not None:
            self._diverged(reading)
        self.loss = reading.loss
        seconds, total = self.metrics.lap()
        row = Metrics(
            step=self.step,
            loss=reading.loss,
            lr=self._rate(self.step - 1),
            grad_norm=reading.grad_norm,
            pictures_per_s=reading.samples * self.accelerator.num_processes / seconds,
            seconds=total,
        )
        self.metrics.write(row)
        self.board.write(row)
        if progress and self.accelerator.is_main_process:
            left = (self.options.steps - self.step) * self.options.batch / row.pictures_per_s
            progress(line(row, name=self.task.name, steps=self.options.steps, seconds_left=left))

    def _diverged(self, reading: Reading) -> None:
        keys = gather_object(list(reading.bad_keys))
        path = self.out / "nan-batch.json"
        if self.accelerator.is_main_process:
            record = {"task": self.task.name, "step": reading.bad_step, "keys": keys}
            path.write_text(json.dumps(record, indent=2))
        raise Diverged(
            f"{self.task.name}: loss or gradient is not finite at step {reading.bad_step}; "
            f"the {len(keys)} sample keys of its batch are in '{path}'",
            hint="look at these samples, or resume from the last checkpoint with a lower lr",
        )

    def _save(self) -> None:
        if self.saved_at != self.step and self.accelerator.is_main_process:
            state = checkpoint.Checkpoint(
                step=self.step,
                identity=self.identity,
                weights={name: parameter.data for name, parameter in self.named},
                optimizer=self.optimizer.state(),
                ema=self.ema.state() if self.ema else {},
            )
            checkpoint.save(state, self.out / "checkpoints", keep=self.options.keep_checkpoints)
        self.saved_at = self.step
        self.accelerator.wait_for_everyone()

    def _jobs(self) -> Iterator[tuple[int, range]]:
        options, accelerator = self.options, self.accelerator
        for step in range(self.step, options.steps):
            for micro in range(options.accumulate):
                yield (
                    step,
                    positions(
                        step,
                        batch=options.batch,
                        micro=micro,
                        accumulate=options.accumulate,
                        rank=accelerator.process_index,
                        world=accelerator.num_processes,
                    ),
                )

    def _batch(self, step: int, at: range) -> Batch:
        batch = self.task.batch(step, at)
        if self.device.type != "cuda":
            return batch
        return Batch(batch.keys, {name: t.pin_memory() for name, t in batch.tensors.items()})

    def _stopping(self, stop: StopRequest) -> bool:
        """Processes get a signal at different steps, so that they agree on one at log steps."""
        if self.accelerator.num_processes == 1:
            return stop.requested
        if self.step % self.options.log_every:
            return False
        asked = torch.tensor([float(stop.requested)], device=self.device)
        return bool(self.accelerator.reduce(asked, reduction="sum").item())

    def _rate(self, step: int) -> float:
        return learning_rate(
            step,
            peak=self.options.lr,
            steps=self.options.steps,
            schedule=self.options.schedule,
            warmup_steps=self.options.warmup_steps,
        )


def _one_thread() -> None:
    """For threads that build batches. One tensor operation that a builder spread over threads of
    its own would outnumber the processors, and OpenMP's threads would then sleep between two
    operations, here and in the step: a step of a small model takes 1.4 times as long."""
    torch.set_num_threads(1)


@contextlib.contextmanager
def _threads_kept() -> Iterator[None]:
    """`_one_thread` is also what threads yet to come would start with."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _no_denormals() -> Iterator[None]:
    """Moments that decay to denormals are 10x slower on CPUs; other code may want its own."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
