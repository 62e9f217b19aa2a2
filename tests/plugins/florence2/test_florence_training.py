"""Gradients, memory savings, bf16, and models that come back from their folders."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

from tests.plugins.florence2.test_florence_forward import NEAR, bottleneck, encoder, views
from tests.plugins.florence2.tiny_florence import ARCHITECTURE, PROMPT_IDS, SIZE, TOKENS
from vlv_core import weights
from vlv_core.specs import Near, PixelSpec
from vlv_plugins.florence2._bottleneck import build as build_bottleneck
from vlv_plugins.florence2._encoder import build as build_encoder
from vlv_plugins.florence2.config import BottleneckConfig, EncoderConfig


def tokens(count: int = 2) -> Tensor:
    return torch.randn(count, TOKENS, 24, generator=torch.Generator().manual_seed(2))


def quiet(part: Any) -> Any:
    """In train mode, but without dropout and dropped paths, so that two passes agree."""
    part.train()
    for module in part.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "attention_dropout", "activation_dropout", "drop_prob"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return part


def gradients(part: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    part.zero_grad()
    part(inputs).square().sum().backward()
    return {name: p.grad.clone() for name, p in part.named_parameters() if p.grad is not None}


def test_checkpointing_changes_no_gradient_of_the_bottleneck() -> None:
    part, saving = bottleneck(), bottleneck(gradient_checkpointing=True)
    saving.load_state_dict(part.state_dict())
    calls = counted(saving.language_model.encoder.layers[0])
    one, other = gradients(quiet(part), tokens()), gradients(quiet(saving), tokens())
    assert len(calls) == 2, "the layer is computed again in the backward pass"
    assert one.keys() == other.keys() == dict(part.named_parameters()).keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], msg=name)


def test_checkpointing_changes_no_gradient_of_the_encoder() -> None:
    part, saving = encoder(), encoder(gradient_checkpointing=True)
    saving.load_state_dict(part.state_dict())
    calls = counted(saving.vision_tower.blocks[2][0])
    one, other = gradients(quiet(part), views()), gradients(quiet(saving), views())
    assert len(calls) == 2, "the block is computed again in the backward pass"
    assert one.keys() == other.keys() == dict(part.named_parameters()).keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], msg=name)


def test_gradient_reaches_the_encoder_through_a_frozen_bottleneck() -> None:
    seeing, part = encoder(), bottleneck().requires_grad_(False)
    before = {name: p.clone() for name, p in part.named_parameters()}
    part(seeing(views())).square().sum().backward()
    assert all(p.grad is not None for p in seeing.parameters())
    torch.optim.AdamW(seeing.parameters(), lr=0.1).step()
    assert all(torch.equal(p, before[name]) for name, p in part.named_parameters())


def test_training_lowers_a_loss() -> None:
    torch.manual_seed(0)
    seeing, part = encoder(), bottleneck()
    due = torch.randn(2, 6, 16)
    optimiser = torch.optim.AdamW([*seeing.parameters(), *part.parameters()], lr=3e-3)
    losses = []
    for _ in range(20):
        loss = (part(seeing(views())) - due).square().mean()
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.7 * losses[0]


def test_bf16_autocast_is_close_to_float32() -> None:
    seeing, part = encoder(), bottleneck()
    with torch.no_grad():
        exact = part(seeing(views()))
        with torch.autocast("cpu", torch.bfloat16):
            near = part(seeing(views()))
    assert torch.isfinite(near).all()
    assert (near.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_parts_cast_to_bf16_follow_their_parameters() -> None:
    seeing, part = encoder(), bottleneck()
    with torch.no_grad():
        exact = part(seeing(views()))
        near = part.to(torch.bfloat16)(seeing.to(torch.bfloat16)(views()))
        assert part(tokens().float()).dtype == torch.bfloat16
    assert torch.isfinite(near).all()
    assert (near.float() - exact).abs().max() < 0.1 * exact.abs().max()


def test_the_prompt_is_read() -> None:
    part, other = bottleneck(), bottleneck(prompt_ids=(0, 17, 18, 20, 2))
    other.load_state_dict(part.state_dict())
    assert "prompt_ids" not in part.state_dict()
    with torch.no_grad():
        assert not torch.allclose(part(tokens()), other(tokens()))


@pytest.mark.parametrize("kind", ["encoder", "bottleneck"])
def test_saved_weights_come_back(kind: str, tmp_path: Path) -> None:
    """As core loads a model: parameters without memory, buffers real, tied weights once."""
    part: Any = encoder() if kind == "encoder" else bottleneck()
    digest = weights.write(
        weights.distinct(part), tmp_path / "part.safetensors", dtype=torch.float32
    )
    with init_empty_weights(include_buffers=False):
        loaded: Any = rebuilt(kind)
    weights.assign(loaded, weights.read(tmp_path / "part.safetensors", digest), part=kind)
    inputs = views() if kind == "encoder" else tokens()
    with torch.no_grad():
        assert torch.equal(part(inputs), loaded.eval()(inputs))
    if kind == "bottleneck":
        language = loaded.language_model
        assert language.encoder.embed_tokens.weight is language.shared.weight


def rebuilt(kind: str) -> nn.Module:
    if kind == "encoder":
        config = EncoderConfig(architecture=ARCHITECTURE, pixels=PixelSpec(size=SIZE))
        return build_encoder(config, Near(view_size=SIZE))
    return build_bottleneck(
        BottleneckConfig(architecture=ARCHITECTURE, num_queries=6, prompt_ids=PROMPT_IDS), NEAR
    )


def counted(module: Any) -> list[int]:
    """One entry for each time that the module is computed."""
    calls: list[int] = []
    inner = next(child for child in module.children())
    inner.register_forward_hook(lambda *_: calls.append(1))
    return calls
