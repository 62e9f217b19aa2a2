"""What a recipe will cost, found by running it on tensors without storage: nothing is computed.

Memory is what autograd keeps, operations are what the matrix products and attentions of forward and
backward pass are made of, both of one sample and scaled up. No weights, data or devices are needed.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from vlv_core.model import VLV
from vlv_core.recipe import Stage
from vlv_core.training.freeze import StageModules, is_frozen
from vlv_core.training.optim import hidden_matrices

Shape = tuple[int, ...]
FLOAT32 = 4
CAPTION_TOKENS = 227
"""mean length of the paper's captions, for data that is not here"""


@dataclass(frozen=True)
class PartMemory:
    """Bytes of one part in one stage."""

    weights: int
    gradients: int
    optimizer: int
    """moments, and averaged weights"""

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer


@dataclass(frozen=True)
class Plan:
    """One stage's cost on one device."""

    parts: dict[str, PartMemory]
    """of those that the stage's loss goes through, float32"""
    activations: int
    """bytes that the backward pass of one micro-batch keeps"""
    sample_flops: int
    """operations of one sample, forward and backward"""
    samples: int
    """of the whole stage"""

    @property
    def memory(self) -> int:
        return sum(part.total for part in self.parts.values()) + self.activations

    def gpu_hours(self, rate: float) -> float:
        """Hours of one device that sustains `rate` operations a second."""
        return self.sample_flops * self.samples / rate / 3600


def plan(
    model: VLV,
    stage: Stage,
    number: int,
    *,
    processes: int = 1,
    caption_tokens: int = CAPTION_TOKENS,
) -> Plan:
    """Plan stage `number` of a model on the meta device, which stays as it is."""
    model = copy.deepcopy(model)
    modules = StageModules(model, stage.train, stage=number)
    parts = {name: _state(modules, name, stage) for name in modules.parts}
    kept, flops = _one_sample(model, stage, number, caption_tokens)
    micro = -(-stage.batch // (stage.accumulate * processes))
    return Plan(parts, kept * micro, flops, stage.steps * stage.batch)


def inference_bytes(model: VLV, *, width: int = 2) -> dict[str, int]:
    """Weights of each part in numbers of `width` bytes; captioning needs no diffusion."""
    return {
        name: sum(p.numel() for p in module.parameters()) * width for name, module in model.parts()
    }


def _state(modules: StageModules, part: str, stage: Stage) -> PartMemory:
    trained = [(n, p) for n, p in modules.trainable if n.partition(".")[0] == part]
    numbers = sum(p.numel() for _, p in trained)
    muon = hidden_matrices(trained, modules=modules) if stage.optimizer == "muon" else set()
    moments = sum(p.numel() * (1 if name in muon else 2) for name, p in trained)
    return PartMemory(
        weights=sum(p.numel() * p.element_size() for p in modules.parts[part].parameters()),
        gradients=numbers * FLOAT32,
        optimizer=(moments + (numbers if stage.ema else 0)) * FLOAT32,
    )


def _one_sample(model: VLV, stage: Stage, number: int, tokens: int) -> tuple[int, int]:
    """Bytes that autograd keeps, and operations, for one sample of a stage."""
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage._cdata] = storage.nbytes()
        return tensor

    half = torch.autocast("cpu", dtype=torch.bfloat16, enabled=stage.dtype == "bfloat16")
    counter = FlopCounterMode(display=False, custom_mapping=_ATTENTION)
    # as if on the CPU, for autocast and attention do not know the meta device
    with FakeTensorMode(allow_non_fake_inputs=True):
        _give_empty_tensors(model)
        with half, counter:
            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                loss = _stage1(model, stage) if number == 1 else _stage2(model, tokens)
            loss.float().sum().backward()
        for parameter in model.parameters():
            seen.pop(parameter.untyped_storage()._cdata, None)
    return sum(seen.values()), counter.get_total_flops()


def _give_empty_tensors(model: VLV) -> None:
    """What `to_empty` does, for fake tensors, and with ties kept."""
    made: dict[int, Tensor] = {}
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, old in table.items():
                if old is None:
                    continue
                if id(old) not in made:
                    empty = torch.empty_like(old, device="cpu")
                    trained = old.requires_grad
                    is_parameter = isinstance(old, nn.Parameter)
                    made[id(old)] = nn.Parameter(empty, trained) if is_parameter else empty
                table[name] = made[id(old)]  # type: ignore[assignment]


def _stage1(model: VLV, stage: Stage) -> Tensor:
    """The loss of one picture and its draws, as `stages.Stage1Task` has it."""
    diffusion, draws = model.diffusion, stage.noise_samples
    with torch.set_grad_enabled(not is_frozen(model.encoder)):
        tokens = model.encoder(_pixels(model))
    noise = torch.zeros(draws, *diffusion.latent_shape)
    with torch.no_grad():
        size = model.view.size
        moments = diffusion.moments(torch.zeros(1, size, size, 3, dtype=torch.uint8))
        latents = diffusion.latents(moments, noise[:1])
        times = diffusion.timesteps(torch.zeros(draws))
    return model.stage1_loss(tokens, latents, noise=noise, t=times)


def _stage2(model: VLV, length: int) -> Tensor:
    """The loss of one picture and its caption of `length` tokens."""
    ids = torch.zeros(1, length, dtype=torch.int64)
    return model.stage2_loss(model.encoder(_pixels(model)), ids, torch.ones_like(ids).bool())


def _pixels(model: VLV) -> Tensor:
    size = model.encoder.pixels.size
    return torch.zeros(1, size, size, 3, dtype=torch.uint8)


def _forward_flops(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _backward_flops(grad: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward_flops,
}
"""torch counts the attention kernels of GPUs alone"""
