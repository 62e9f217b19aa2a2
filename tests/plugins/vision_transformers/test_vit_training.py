"""The encoder in training: conformance, gradients, checkpointing, bfloat16, loading on meta."""

from typing import Any

import pytest
import torch
from accelerate import init_empty_weights
from torch import Tensor

from tests.plugins.vision_transformers.test_vit_forward import made
from tests.plugins.vision_transformers.tiny_models import ARCHITECTURES, KINDS, noise
from vlv_core.bottleneck import QueryBottleneck
from vlv_core.conformance import EncoderConformance
from vlv_plugins import vision_transformers

SPEC = next(iter(vision_transformers.vlv_encoders()))


def options(kind: str, **others: Any) -> dict[str, Any]:
    return {"model": "x/y", "architecture": ARCHITECTURES[kind], **others}


class TestClip(EncoderConformance):
    spec = SPEC
    config = options("clip")


class TestSiglip(EncoderConformance):
    spec = SPEC
    config = options("siglip", layer=-2, norm=False)


class TestDinov2(EncoderConformance):
    spec = SPEC
    config = options("dinov2", image_size=16, tokens="cls")


class TestDinov2WithRegisters(EncoderConformance):
    spec = SPEC
    config = options("dinov2_with_registers", tokens="all")


class TestDinov3(EncoderConformance):
    spec = SPEC
    config = options("dinov3_vit", layer=2)


class TestVit(EncoderConformance):
    spec = SPEC
    config = options("vit")


def gradients(encoder: Any) -> dict[str, Tensor]:
    encoder(torch.from_numpy(noise(2, 16, 16, 3))).pow(2).mean().backward()
    return {name: p.grad for name, p in encoder.named_parameters()}


@pytest.mark.parametrize("kind", ["clip", "dinov2", "dinov3_vit", "siglip", "vit"])
def test_checkpointing_changes_memory_and_nothing_else(kind: str) -> None:
    plain = made(kind, image_size=16).train()
    saving = made(kind, image_size=16, gradient_checkpointing=True).train()
    saving.load_state_dict(plain.state_dict())
    assert any(getattr(m, "gradient_checkpointing", False) for m in saving.modules())
    ours = gradients(saving)
    for name, gradient in gradients(plain).items():
        torch.testing.assert_close(ours[name], gradient, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_close(kind: str) -> None:
    encoder = made(kind, image_size=16).eval()
    view = torch.from_numpy(noise(1, 16, 16, 3))
    with torch.no_grad():
        exact = encoder(view)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = encoder(view).float()
        frozen = encoder.to(torch.bfloat16)(view)
    assert frozen.dtype == torch.bfloat16
    for rounded in (mixed, frozen.float()):
        assert torch.isfinite(rounded).all()
        assert (rounded - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_frequencies_of_positions_are_not_rounded() -> None:
    encoder = made("dinov3_vit")
    exact = encoder.tower.rope_embeddings.inv_freq.clone()
    frequencies = encoder.to(torch.bfloat16).tower.rope_embeddings.inv_freq
    assert torch.equal(frequencies, exact) and frequencies.dtype == torch.float32
    assert "tower.rope_embeddings.inv_freq" not in encoder.state_dict()


def test_frozen_it_takes_no_gradient_and_the_bottleneck_learns() -> None:
    encoder = made("dinov2", image_size=16).eval().requires_grad_(False)
    bottleneck = QueryBottleneck(
        num_queries=3, width=16, depth=1, heads=2, token_dim=encoder.dim, dim=8
    )
    before = {name: p.clone() for name, p in encoder.named_parameters()}
    z = bottleneck(encoder(torch.from_numpy(noise(2, 16, 16, 3))))
    z.pow(2).mean().backward()
    assert z.shape == (2, 3, 8)
    assert bottleneck.queries.grad is not None and bottleneck.queries.grad.abs().sum() > 0
    assert all(p.grad is None for p in encoder.parameters())
    assert all(torch.equal(p, before[name]) for name, p in encoder.named_parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_loaded_by_name_onto_meta_parameters_is_the_same(kind: str) -> None:
    encoder = made(kind, image_size=16).eval()
    with init_empty_weights(include_buffers=False):
        empty = made(kind, image_size=16).eval()
    empty.load_state_dict(encoder.state_dict(), assign=True)
    view = torch.from_numpy(noise(1, 16, 16, 3))
    with torch.no_grad():
        assert torch.equal(encoder(view), empty(view))
