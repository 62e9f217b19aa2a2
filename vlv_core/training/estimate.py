"""What a training will need of memory, before it starts."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vlv_core.errors import DataError
from vlv_core.training.optim import hidden_matrices
from vlv_core.training.options import TrainOptions
from vlv_core.training.stages import StageTask

FLOAT32 = 4


@dataclass(frozen=True)
class Memory:
    """Bytes on one device."""

    weights: int
    """of every part that the stage's loss goes through, float32"""
    gradients: int
    optimizer: int
    """moments, and averaged weights"""
    activations: int
    """what the backward pass of one micro-batch keeps, scaled up from one sample"""

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations


def estimate(task: StageTask, options: TrainOptions, *, processes: int = 1) -> Memory:
    """Runs the first readable sample forward, which changes nothing.

    Raises DataError if there is none.
    """
    named = task.trainable()
    trained = sum(parameter.numel() for _, parameter in named)
    samples = -(-options.batch // (options.accumulate * processes))
    return Memory(
        weights=sum(p.numel() * p.element_size() for p in task.modules.parameters()),
        gradients=trained * FLOAT32,
        optimizer=_moments(task, options) * FLOAT32 + (trained * FLOAT32 if options.ema else 0),
        activations=_saved_by_one(task) * samples,
    )


def _moments(task: StageTask, options: TrainOptions) -> int:
    """Numbers that the optimiser keeps: AdamW two a weight, Muon one."""
    named = task.trainable()
    muon = hidden_matrices(named, modules=task.modules) if options.optimizer == "muon" else set()
    return sum(p.numel() * (1 if name in muon else 2) for name, p in named)


def _saved_by_one(task: StageTask) -> int:
    """Bytes that autograd keeps for the backward pass of one sample, without the weights."""
    weights = {p.untyped_storage().data_ptr() for p in task.modules.parameters()}
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    batches = (task.batch(0, range(at, at + 1)) for at in range(len(task.dataset)))
    batch = next((batch for batch in batches if batch.keys), None)
    if batch is None:
        raise DataError(f"none of the {len(task.dataset)} pictures can be read")
    device = task.model.device
    batch.tensors.update({name: tensor.to(device) for name, tensor in batch.tensors.items()})
    with task.autocast(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        task.loss(batch, step=0)
    return sum(seen.values())


def in_words(size: int) -> str:
    """A size in MiB or GiB."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**28 else f"{size / 2**20:.1f} MiB"
