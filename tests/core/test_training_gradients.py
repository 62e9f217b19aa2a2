"""Gradients of a step, against torch's own clipping and against plain sums."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vlv_core.training import gradients

SHAPES = [(3, 4), (5,), (), (2, 2, 2)]


class Processes:
    """Stands for an accelerator of several processes, all of which hold the same tensors."""

    def __init__(self, count: int) -> None:
        self.num_processes = count
        self.reduced: list[int] = []

    def reduce(self, tensor: Tensor, *, reduction: str) -> Tensor:
        assert reduction == "sum"
        self.reduced.append(tensor.numel())
        return tensor * self.num_processes


def parameters(seed: int = 0) -> list[nn.Parameter]:
    stream = torch.Generator().manual_seed(seed)
    made = [nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
    for parameter in made:
        parameter.grad = torch.randn(parameter.shape, generator=stream)
    return made


def grads(of: list[nn.Parameter]) -> list[Tensor]:
    return [p.grad.clone() for p in of if p.grad is not None]


def test_one_process_keeps_its_gradients_and_reduces_nothing() -> None:
    made, alone = parameters(), Processes(1)
    before = grads(made)
    gathered = gradients.gather(made, accelerator=alone)  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(before, gathered, strict=True))
    assert alone.reduced == []


def test_a_parameter_without_a_gradient_counts_as_zeros() -> None:
    made = parameters()
    made[1].grad = None
    gathered = gradients.gather(made, accelerator=Processes(1))  # type: ignore[arg-type]
    assert [tuple(g.shape) for g in gathered] == SHAPES
    assert not gathered[1].any() and made[1].grad is gathered[1]


@pytest.mark.parametrize("bucket", [1, 6, 13, 1000])
def test_processes_sum_in_buckets_of_any_size(monkeypatch: pytest.MonkeyPatch, bucket: int) -> None:
    monkeypatch.setattr(gradients, "BUCKET", bucket)
    made, three = parameters(), Processes(3)
    before = grads(made)
    gathered = gradients.gather(made, accelerator=three)  # type: ignore[arg-type]
    for was, now, parameter in zip(before, gathered, made, strict=True):
        assert torch.equal(now, was * 3) and parameter.grad is now
    assert sum(three.reduced) == 12 + 5 + 1 + 8
    assert len(three.reduced) == {1: 4, 6: 3, 13: 3, 1000: 1}[bucket]


@pytest.mark.parametrize("clip", [0.1, 1.0, 1e6])
@pytest.mark.parametrize("weight", [1.0, 7.0])
def test_division_and_clipping_are_torch_s(clip: float, weight: float) -> None:
    ours, theirs = parameters(), parameters()
    norm = gradients.scale_and_clip(
        gradients.gather(ours, accelerator=Processes(1)),  # type: ignore[arg-type]
        weight=torch.tensor(weight),
        clip=clip,
    )
    for parameter in theirs:
        assert parameter.grad is not None
        parameter.grad /= weight
    expected = nn.utils.clip_grad_norm_(theirs, clip)
    assert norm.item() == pytest.approx(expected.item(), rel=1e-6)
    for a, b in zip(grads(ours), grads(theirs), strict=True):
        assert torch.allclose(a, b, rtol=1e-5)


def test_a_clip_of_zero_is_none() -> None:
    made = parameters()
    before = grads(made)
    gradients.scale_and_clip(
        gradients.gather(made, accelerator=Processes(1)),  # type: ignore[arg-type]
        weight=torch.tensor(1.0),
        clip=0.0,
    )
    assert all(torch.equal(a, b) for a, b in zip(before, grads(made), strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_norm_that_is_not_finite_shows(value: float) -> None:
    made = parameters()
    assert made[3].grad is not None
    made[3].grad[1, 1, 1] = value
    norm = gradients.scale_and_clip(grads(made), weight=torch.tensor(1.0), clip=1.0)
    assert not torch.isfinite(norm)


def test_no_weight_at_all_leaves_zeros() -> None:
    """A batch whose pictures were all unreadable has no gradient and no weight."""
    zeros = [torch.zeros(3), torch.zeros(2, 2)]
    norm = gradients.scale_and_clip(zeros, weight=torch.tensor(0.0), clip=1.0)
    assert norm.item() == 0.0 and not any(z.any() for z in zeros)


@pytest.mark.parametrize("build", [gradients.gather])
def test_accumulated_micro_batches_add(build: Callable[..., list[Tensor]]) -> None:
    layer = nn.Linear(4, 1, bias=False)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(3))
    for piece in x.split(2):
        layer(piece).square().sum().backward()
    summed = build(list(layer.parameters()), accelerator=Processes(1))[0].clone()
    layer.weight.grad = None
    layer(x).square().sum().backward()
    assert torch.allclose(summed, layer.weight.grad, rtol=1e-5)  # type: ignore[arg-type]
