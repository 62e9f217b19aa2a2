"""As a part of a whole model: loaded as the core loads, trained through, drawn from."""

from typing import Any

import numpy as np
import pytest
import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

from tests.plugins.stable_diffusion.tiny import LENGTH, VIEW, Published, close, normal
from vlv_core.captioner import Captioner
from vlv_core.compose import Choice, choose, compose
from vlv_core.model import VLV
from vlv_core.plugins import load_plugins
from vlv_core.protocols import Conditioning
from vlv_core.specs import Near, View, resolve
from vlv_core.torch_backend import TorchBackend
from vlv_core.weights import assign, distinct, materialise


def model_of(published: Published) -> VLV:
    """A small encoder, bottleneck, connector and head around a published decoder."""
    plugins = load_plugins(third_party=False)
    options: dict[str, dict[str, Any]] = {
        "encoder": {"plugin": "mini-vit", "width": 32, "depth": 1, "heads": 2},
        "bottleneck": {"plugin": "query", "num_queries": 5, "depth": 1, "heads": 2},
        "connector": {"plugin": "mlp"},
        "head": {"plugin": "mini-lm", "width": 32, "depth": 1, "heads": 2, "hidden": 48},
    }
    choices = {
        role: choose(role, table.pop("plugin"), table, plugins=plugins)
        for role, table in options.items()
    }
    choices["decoder"] = Choice(published.spec, published.config)
    torch.manual_seed(0)
    model = compose(choices, view=View(VIEW))
    for part in (model.condition, model.diffusion):
        published.read(part)
    return model


def test_an_empty_part_filled_by_name_is_the_same(published: Published) -> None:
    """The core builds parameters on the meta device and assigns weights to them."""
    with init_empty_weights(include_buffers=False):
        condition = resolve(published.spec.build)(published.config, Near(view_size=VIEW))
        diffusion = resolve(published.spec.diffusion)(published.config, published.near)
    assign(condition, distinct(published.condition), part="condition")
    materialise(diffusion)
    diffusion.load_pretrained(published.folder)
    z, noisy = normal(2, 4, condition.embedding_dim), normal(2, *diffusion.latent_shape)
    given, t = condition.eval()(z), torch.tensor([5, 800])
    close(given.context, published.condition(z).context)
    due = published.diffusion.predict(noisy, t, published.condition(z))
    close(diffusion.eval().predict(noisy, t, given), due)


def test_stage_1_learns_through_the_frozen_decoder(published: Published) -> None:
    model = model_of(published)
    frozen = [p for part in (model.condition, model.diffusion) for p in part.parameters()]
    before = [parameter.clone() for parameter in frozen]
    learning = [*model.encoder.parameters(), *model.bottleneck.parameters()]
    optimizer = torch.optim.AdamW(learning, lr=3e-3)
    generator = torch.Generator().manual_seed(1)
    view = torch.randint(0, 256, (4, VIEW, VIEW, 3), generator=generator, dtype=torch.uint8)
    shape = model.diffusion.latent_shape
    with torch.no_grad():
        latents = model.diffusion.latents(model.diffusion.moments(view), normal(4, *shape))
    noise, t = normal(4, *shape, seed=2), model.diffusion.timesteps(torch.linspace(0.1, 0.9, 4))
    losses = []
    for _ in range(20):
        loss = model.stage1_loss(model.encoder(view), latents, noise=noise, t=t).mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 1e-4, losses
    assert all(torch.equal(*pair) for pair in zip(frozen, before, strict=True))


class _Predict(nn.Module):
    def __init__(self, diffusion: Any) -> None:
        super().__init__()
        self.diffusion = diffusion

    def forward(self, noisy: Tensor, t: Tensor, context: Tensor, pooled: Any) -> Tensor:
        made: Tensor = self.diffusion.predict(noisy, t, Conditioning(context, pooled))
        return made


def test_both_graphs_export_with_any_batch_and_length(published: Published) -> None:
    if published.kind == "stable-diffusion-v":
        pytest.skip("the same graphs as epsilon's")
    batch, length = torch.export.Dim("batch", max=8), torch.export.Dim("length", max=LENGTH)
    z, noisy = normal(2, 6, published.condition.embedding_dim), normal(2, 4, 8, 8)
    t = torch.tensor([5, 800])
    rows = {0: batch, 1: length}
    condition = torch.export.export(published.condition, (z,), dynamic_shapes=(rows,)).module()
    context, pooled = published.condition(z)
    predict = torch.export.export(
        _Predict(published.diffusion),
        (noisy, t, context, pooled),
        dynamic_shapes=({0: batch}, {0: batch}, rows, None if pooled is None else {0: batch}),
    ).module()
    z, noisy, t = normal(3, 9, z.shape[2]), normal(3, 4, 8, 8), torch.tensor([1, 2, 900])
    given = condition(z)
    close(given.context, published.condition(z).context)
    close(predict(noisy, t, *given), published.diffusion.predict(noisy, t, given))


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_captioner_redraws_pictures(published: Published, guidance: float) -> None:
    model = model_of(published).eval()
    captioner = Captioner(TorchBackend(model), name="tiny", domain="", view=model.view)
    pictures = [np.full((20, 24, 3), shade, np.uint8) for shade in (0, 255)]
    made = captioner.reconstruct(pictures, seed=3, steps=3, guidance=guidance, keys=[1, 2])
    assert made.shape == (2, VIEW, VIEW, 3) and made.dtype == np.uint8
    alone = captioner.reconstruct(pictures[1:], seed=3, steps=3, guidance=guidance, keys=[2])
    assert np.abs(made[1].astype(int) - alone[0].astype(int)).max() <= 1
