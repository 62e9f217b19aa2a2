"""The optimisers, against torch's own and against formulas."""

import copy

import pytest
import torch
from torch import nn

from tests.core.training_tasks import Toy
from vlv_core.errors import ModelError
from vlv_core.training.ema import Ema
from vlv_core.training.optim import Optimizer, hidden_matrices
from vlv_core.training.options import TrainOptions


def options(**changes: object) -> TrainOptions:
    return TrainOptions(**{"steps": 10, "batch": 4, "lr": 1e-2, **changes})  # type: ignore[arg-type]


def gradients(model: nn.Module, seed: int) -> None:
    stream = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=stream)


def optimizer(model: nn.Module, **changes: object) -> Optimizer:
    return Optimizer(list(model.named_parameters()), modules=model, options=options(**changes))


def test_adamw_is_torch_s_with_decay_on_matrices_alone() -> None:
    ours, theirs = Toy(), Toy()
    mine = optimizer(ours, weight_decay=0.1)
    reference = torch.optim.AdamW(
        [
            {"params": [p for p in theirs.parameters() if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in theirs.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=3e-3,
        betas=(0.9, 0.99),
    )
    for step in range(4):
        gradients(ours, step)
        gradients(theirs, step)
        mine.step(3e-3)
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_muon_takes_hidden_matrices_only() -> None:
    model = Toy()
    assert hidden_matrices(list(model.named_parameters()), modules=model) == {"hidden.weight"}


def test_muon_leaves_a_tied_output_layer_to_adamw() -> None:
    model = Toy()
    model.out = nn.Linear(6, 5, bias=False)
    model.out.weight = model.table.weight
    assert "table.weight" not in hidden_matrices(list(model.named_parameters()), modules=model)


def test_muon_part_is_torch_s_and_the_rest_is_adamw() -> None:
    ours, theirs = Toy(), Toy()
    mine = optimizer(ours, optimizer="muon", weight_decay=0.1)
    muon = torch.optim.Muon(
        [theirs.hidden.weight], lr=1e-3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW([theirs.norm.bias], lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0)
    for step in range(3):
        gradients(ours, step)
        gradients(theirs, step)
        mine.step(1e-3)
        muon.step()
        adamw.step()
    assert torch.equal(ours.hidden.weight, theirs.hidden.weight)
    assert torch.equal(ours.norm.bias, theirs.norm.bias)


def test_a_muon_update_is_orthogonal_and_as_large_as_adamw_s() -> None:
    model = nn.Sequential(nn.Linear(64, 64, bias=False))
    before = model[0].weight.detach().clone()
    mine = optimizer(model, optimizer="muon", weight_decay=0.0)
    gradients(model, 1)
    mine.step(1e-2)
    update = (before - model[0].weight.detach()) / 1e-2
    singular = torch.linalg.svdvals(update / (0.2 * 64**0.5))
    assert singular.min() > 0.3 and singular.max() < 1.3
    assert update.square().mean().sqrt() == pytest.approx(0.2, rel=0.2)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_state_round_trips_bit_for_bit(kind: str) -> None:
    model = Toy()
    first = optimizer(model, optimizer=kind)
    for step in range(3):
        gradients(model, step)
        first.step(1e-2)
    twin = copy.deepcopy(model)
    second = optimizer(twin, optimizer=kind)
    second.load({name: tensor.clone() for name, tensor in first.state().items()})
    for step in range(3, 6):
        for one, its in ((model, first), (twin, second)):
            gradients(one, step)
            its.step(1e-2)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_state_of_other_parameters_is_refused() -> None:
    with pytest.raises(ModelError, match=r"unknown parameters: \['nobody'\]"):
        optimizer(Toy()).load({"nobody/exp_avg": torch.zeros(2)})


def test_ema_formula() -> None:
    model = nn.Linear(2, 2)
    average = Ema(list(model.named_parameters()), decay=0.5)
    expected = model.weight.detach().double().clone()
    for step in range(12):
        with torch.no_grad():
            model.weight.add_(step + 1.0)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach().double()
    assert torch.allclose(average.state()["weight"].double(), expected, rtol=1e-5)


def test_ema_stands_in_the_model_only_for_the_duration() -> None:
    model = nn.Linear(2, 2)
    average = Ema(list(model.named_parameters()), decay=0.9)
    start = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    with average.applied():
        assert torch.equal(model.weight, start)
    assert torch.equal(model.weight, start + 1.0)
    average.apply()
    assert torch.equal(model.weight, start)
