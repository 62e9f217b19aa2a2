"""What pretraining the bundled text-to-image model optimises: first the VAE, then the denoiser."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vlv_core import Conditioning
from vlv_core.randomness import Purpose, normal_rows, uniform_rows
from vlv_core.training.task import Batch
from vlv_plugins.mini._condition import MiniCondition
from vlv_plugins.mini._diffusion import MiniDiffusion
from vlv_plugins.mini._vae import to_pixels

KL_WEIGHT = 1e-4
LATENT_NOISE = 0.15
"""noise added to latents before decoding, in their own deviations, so that the decoder forgives
what the denoiser gets slightly wrong"""
CONDITION_DROPOUT = 0.1


class VaeTask:
    """Absolute and squared error of the picture, and a little KL divergence."""

    name = "vae"

    def __init__(self, diffusion: MiniDiffusion, dataset: Any, *, seed: int) -> None:
        self.diffusion, self.dataset, self.seed = diffusion, dataset, seed
        self.vae = diffusion.vae
        self.modules: nn.Module = self.vae

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        return list(self.modules.named_parameters())

    def batch(self, step: int, positions: range) -> Batch:
        samples = self.dataset.samples([p % len(self.dataset) for p in positions])
        noise = normal_rows(
            self.seed,
            purpose=Purpose.LATENT_POSTERIOR,
            step=step,
            keys=positions,
            shape=(2, *self.diffusion.latent_shape),
        )
        views = np.stack([sample.load() for sample in samples])
        tensors = {"view": torch.from_numpy(views), "noise": torch.from_numpy(noise)}
        return Batch(tuple(sample.key for sample in samples), tensors)

    def loss(self, batch: Batch, *, step: int) -> tuple[Tensor, float]:
        del step
        pixels = to_pixels(batch.tensors["view"], torch.float32)
        posterior, extra = batch.tensors["noise"].unbind(1)
        moments = self.vae.moments(pixels).float()
        mean, log_variance = moments.chunk(2, dim=1)
        latents = self.vae.sample(moments, posterior)
        spread = mean.detach().std(dim=(0, 2, 3), keepdim=True)
        error = self.vae.decode(latents + LATENT_NOISE * spread * extra).float() - pixels
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
        # Flat pictures: the absolute error keeps edges sharp, the squared one finds small shapes.
        each = (error.abs() + 2 * error.square()).mean(dim=(1, 2, 3))
        return (each + KL_WEIGHT * kl.mean(dim=(1, 2, 3))).sum(), float(len(pixels))


class DenoiserTask:
    """The flow-matching loss under captions, a tenth of them dropped for guidance."""

    name = "t2i"

    def __init__(
        self,
        condition: MiniCondition,
        diffusion: MiniDiffusion,
        dataset: Any,
        means: NDArray[np.float16],
        *,
        seed: int,
    ) -> None:
        self.condition, self.diffusion = condition, diffusion
        self.dataset, self.means, self.seed = dataset, means, seed
        self.modules: nn.Module = nn.ModuleDict({"condition": condition, "diffusion": diffusion})

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        named = self.modules.named_parameters()
        return [(name, p) for name, p in named if not name.startswith("diffusion.vae.")]

    def batch(self, step: int, positions: range) -> Batch:
        rows = [position % len(self.means) for position in positions]
        draws = uniform_rows(
            self.seed, purpose=Purpose.DIFFUSION_TIME, step=step, keys=positions, shape=(2,)
        )
        noise = normal_rows(
            self.seed,
            purpose=Purpose.DIFFUSION_NOISE,
            step=step,
            keys=positions,
            shape=self.diffusion.latent_shape,
        )
        dropped = draws[:, 1] < CONDITION_DROPOUT
        captions = self.dataset.captions(rows)
        kept = ["" if drop else words for words, drop in zip(captions, dropped, strict=True)]
        # Every eighth batch is padded in full, so that any length of padding is familiar.
        length = self.condition.max_queries
        if step % 8:
            length = min(length, self.condition.longest(kept))
        ids, _ = self.condition.tokenize(kept, length=length)
        tensors = {
            "latents": torch.from_numpy(self.means[rows].astype(np.float32)),
            "noise": torch.from_numpy(noise),
            "u": torch.from_numpy(draws[:, 0].copy()),
            "ids": ids,
        }
        return Batch(tuple(str(row) for row in rows), tensors)

    def loss(self, batch: Batch, *, step: int) -> tuple[Tensor, float]:
        del step
        tensors = batch.tensors
        latents = (tensors["latents"] - self.diffusion.shift) * self.diffusion.scale
        conditioning: Conditioning = self.condition(self.condition.embed(tensors["ids"]))
        each = self.diffusion.loss(
            latents,
            conditioning,
            noise=tensors["noise"],
            t=self.diffusion.timesteps(tensors["u"]),
        )
        return each.sum(), float(len(each))
