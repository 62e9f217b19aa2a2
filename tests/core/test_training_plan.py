"""What a dry run foretells, against hand counts and against a real forward pass."""

import pytest
import torch
from torch import Tensor

from tests.core.training_parts import stage, tiny_vlv
from vlv_core.model import VLV
from vlv_core.training.plan import inference_bytes, plan


def on_paper() -> VLV:
    return tiny_vlv().to("meta")


def count(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_weights_gradients_and_moments_by_part() -> None:
    model = on_paper()
    made = plan(model, stage(["connector", "head"], ema=0.9, batch=8), 2, caption_tokens=3)
    assert list(made.parts) == ["encoder", "bottleneck", "condition", "connector", "head"]
    for name, memory in made.parts.items():
        numbers = count(getattr(model, name))
        trained = numbers if name in ("connector", "head") else 0
        assert memory.weights == 4 * numbers
        assert memory.gradients == 4 * trained and memory.optimizer == 3 * 4 * trained
    assert made.memory == made.activations + sum(part.total for part in made.parts.values())


def test_the_model_stays_as_it_is() -> None:
    model = on_paper()
    before = {name: id(p) for name, p in model.named_parameters()}
    plan(model, stage(["bottleneck"]), 1)
    assert {name: id(p) for name, p in model.named_parameters()} == before
    assert all(p.is_meta and p.requires_grad for p in model.parameters())


def test_activations_grow_with_batch_parts_and_draws() -> None:
    """More parts that train, or more draws a picture, keep more for the backward pass."""
    model = on_paper()
    one, more, drawn, eight = (
        plan(model, stage(parts, noise_samples=draws, batch=batch), 1).activations
        for parts, draws, batch in (
            (["bottleneck"], 1, 1),
            (["encoder", "bottleneck"], 1, 1),
            (["bottleneck"], 4, 1),
            (["bottleneck"], 1, 8),
        )
    )
    assert one < more and one < drawn and eight == 8 * one
    settings = stage(["bottleneck"], batch=8, accumulate=2)
    assert plan(model, settings, 1, processes=2).activations == 2 * one


def test_activations_are_what_autograd_really_keeps() -> None:
    """The same count on a real model, on real numbers."""
    settings = stage(["connector", "head"], batch=1)
    model = tiny_vlv()
    made = plan(model.to("meta"), settings, 2, caption_tokens=5)
    model = tiny_vlv()
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    for part in (model.encoder, model.bottleneck, model.condition):
        part.eval().requires_grad_(False)
    ids = torch.zeros(1, 5, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        view = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
        loss = model.stage2_loss(model.encoder(view), ids, torch.ones_like(ids).bool())
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    real = sum(size for place, size in kept.items() if place not in weights)
    assert loss.requires_grad and made.activations == pytest.approx(real, rel=0.1)


def test_operations_are_counted_through_frozen_parts() -> None:
    """A multiply-add is two operations; forward and two products backward where weights train."""
    model = on_paper()
    trained = plan(model, stage(["connector", "head"]), 2, caption_tokens=5)
    # the frozen parts run forward alone; the connector's input needs no gradient
    forward = {name: _matrix_flops(getattr(model, name)) for name in ("encoder", "condition")}
    assert trained.sample_flops > forward["encoder"] * 4 + forward["condition"]
    whole = plan(model, stage(["encoder", "connector", "head"]), 2, caption_tokens=5)
    assert whole.sample_flops > trained.sample_flops
    longer = plan(model, stage(["connector", "head"]), 2, caption_tokens=50)
    words = 2 * 45 * _matrix_flops(model.head) // 2
    assert longer.sample_flops - trained.sample_flops == pytest.approx(3 * words, rel=0.2)


def _matrix_flops(module: torch.nn.Module) -> int:
    """Of the linear layers, for one row."""
    layers = (m for m in module.modules() if isinstance(m, torch.nn.Linear))
    return sum(2 * layer.weight.numel() for layer in layers)


def test_gpu_hours_are_operations_over_the_rate() -> None:
    made = plan(on_paper(), stage(["bottleneck"], steps=10, batch=4), 1)
    assert made.samples == 40
    assert made.gpu_hours(1e6) == pytest.approx(made.sample_flops * 40 / 1e6 / 3600)


def test_inference_bytes_are_two_a_weight() -> None:
    model = on_paper()
    assert inference_bytes(model)["head"] == 2 * count(model.head)
