"""Drawing by our loop and drawing by the pipelines: the same latents, the same pictures."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.plugins.stable_diffusion.tiny import LENGTH, VIEW, Published, close, normal
from vlv_core.protocols import Conditioning
from vlv_core.sampling import sample

STEPS = 4
CAPTIONS = ["a red circle", "cities"]


def ours(published: Published, noise: Tensor, guidance: float) -> tuple[Tensor, int]:
    """Latents, and how many rows the denoiser was given."""
    conditioning, _ = published.condition.from_text(CAPTIONS)
    empty = published.condition.unconditional(LENGTH)
    rows = 0

    def expanded(each: Tensor | None) -> Tensor | None:
        return None if each is None else each.expand(len(noise), *each.shape[1:])

    def predict(latents: NDArray[Any], t: NDArray[Any], conditional: bool) -> NDArray[Any]:
        nonlocal rows
        rows += len(latents)
        chosen = conditioning if conditional else Conditioning(*map(expanded, empty))
        answer = published.diffusion.predict(torch.from_numpy(latents), torch.from_numpy(t), chosen)
        return answer.numpy()

    made = sample(
        predict,
        noise=noise.numpy(),
        schedule=published.diffusion.schedule(),
        steps=STEPS,
        guidance=guidance,
    )
    return torch.from_numpy(made), rows


def theirs(published: Published, noise: Tensor, guidance: float, output: str) -> Any:
    made = published.pipe(
        prompt=CAPTIONS,
        latents=noise.clone(),
        guidance_scale=guidance,
        num_inference_steps=STEPS,
        height=VIEW,
        width=VIEW,
        output_type=output,
    )
    return made.images


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_drawing_equals_the_pipelines(published: Published, guidance: float) -> None:
    noise = normal(2, *published.diffusion.latent_shape)
    with torch.no_grad():
        latents, rows = ours(published, noise, guidance)
        close(latents, theirs(published, noise, guidance, "latent"), 1e-4)
        pictures = published.diffusion.decode(latents)
        due = theirs(published, noise, guidance, "np")
    np.testing.assert_allclose(pictures.numpy(), due, atol=1e-4)
    assert rows == len(noise) * STEPS * (1 if guidance == 1 else 2), "work was done twice"


def test_fewer_queries_draw_too(published: Published) -> None:
    condition, diffusion = published.condition, published.diffusion
    noisy = normal(2, *diffusion.latent_shape)
    made = diffusion.predict(
        noisy, torch.tensor([5, 900]), condition(normal(2, 3, condition.embedding_dim))
    )
    assert made.shape == noisy.shape and torch.isfinite(made).all()
