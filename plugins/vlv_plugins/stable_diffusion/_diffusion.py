"""The diffusion half: VAE, denoiser, and the forward process that they were trained with.

Shape legend: B batch, S view edge, C h w latent, K context positions, Dc context width, P pooled.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from torch import Tensor, nn

from vlv_core import Conditioning, Near
from vlv_core.errors import ConfigError
from vlv_core.sampling import Schedule
from vlv_core.specs import Prediction
from vlv_plugins._hub import fill, known_class, read_weights
from vlv_plugins.stable_diffusion._complete import check_architecture
from vlv_plugins.stable_diffusion._noise import Process, process
from vlv_plugins.stable_diffusion._vae import Vae, load_published_vae
from vlv_plugins.stable_diffusion.config import (
    DIFFUSION_STEM,
    StableDiffusion3Config,
    StableDiffusionConfig,
    stems,
)


class LatentDiffusion(nn.Module, ABC):
    """Denoising in a VAE's latents; subclasses say how their denoiser takes its condition."""

    def __init__(
        self, *, vae: Vae, denoiser: Any, process: Process, config: StableDiffusionConfig
    ) -> None:
        super().__init__()
        self.vae, self.denoiser, self.process = vae, denoiser, process
        self.latent_shape = vae.latent_shape
        self.prediction: Prediction = process.prediction
        self.train_steps = process.train_steps
        self.variant, self.folder = config.variant, config.denoiser
        _check("denoiser.in_channels", denoiser.config.in_channels, "VAE", vae.latent_shape[0])
        if config.gradient_checkpointing:
            denoiser.enable_gradient_checkpointing()

    def moments(self, view: Tensor) -> Tensor:
        """view uint8 (B, S, S, 3) -> mean and log-variance, float32 (B, 2 C, h, w)."""
        return self.vae.moments(view)

    def latents(self, moments: Tensor, noise: Tensor) -> Tensor:
        """A draw from the posterior, shifted and scaled: float32 (B, C, h, w)."""
        return self.vae.latents(moments, noise)

    def timesteps(self, u: Tensor) -> Tensor:
        """u in [0, 1) (B,) -> int64 in 0..T-1 for epsilon and v, float32 in 0..T for flow."""
        return self.process.timesteps(u)

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """noisy (B, C, h, w), t (B,) -> epsilon, v or velocity (B, C, h, w).

        One pass for the rows that it is given: guidance is the sampler's affair.
        """
        dtype = self.denoiser.dtype
        context, pooled = conditioning
        pooled = None if pooled is None else pooled.to(dtype)
        return self._denoise(noisy.to(dtype), t, context.to(dtype), pooled)

    def loss(
        self, latents: Tensor, conditioning: Conditioning, *, noise: Tensor, t: Tensor
    ) -> Tensor:
        """Mean squared error of the prediction, unweighted as the models were trained: (B,)."""
        latents, noise = latents.float(), noise.float()
        answer = self.predict(self.process.noisy(latents, noise, t), t, conditioning)
        error = answer.float() - self.process.target(latents, noise, t)
        return error.square().mean(dim=(1, 2, 3))

    def decode(self, latents: Tensor) -> Tensor:
        """latents (B, C, h, w) -> pictures float32 (B, S, S, 3) in 0..1."""
        return self.vae.decode(latents)

    def schedule(self) -> Schedule:
        return self.process.schedule()

    def load_pretrained(self, folder: Path) -> set[str]:
        """Read the denoiser and VAE of a folder in the layout of diffusers."""
        wanted = stems(DIFFUSION_STEM, self.variant)
        tensors = read_weights(folder / self.folder, *wanted)
        filled = {f"denoiser.{n}" for n in fill(self.denoiser, tensors, where=self.folder)}
        names = load_published_vae(self.vae.model, read_weights(folder / "vae", *wanted))
        return filled | {f"vae.model.{name}" for name in names}

    @abstractmethod
    def _denoise(self, noisy: Tensor, t: Tensor, context: Tensor, pooled: Tensor | None) -> Tensor:
        """The denoiser's own call, with what its architecture wants beside the context."""


class UnetDiffusion(LatentDiffusion):
    """Versions 1, 2 and XL: a U-Net with cross-attention; XL's takes sizes and pooled too."""

    def _denoise(self, noisy: Tensor, t: Tensor, context: Tensor, pooled: Tensor | None) -> Tensor:
        added = None
        if self.denoiser.config.addition_embed_type == "text_time":
            sizes = torch.tensor(self.time_ids, dtype=noisy.dtype, device=noisy.device)
            added = {"text_embeds": pooled, "time_ids": sizes.expand(noisy.shape[0], -1)}
        answer: Tensor = self.denoiser(
            noisy, t, encoder_hidden_states=context, added_cond_kwargs=added, return_dict=False
        )[0]
        return answer

    @property
    def time_ids(self) -> list[float]:
        """XL's original size, crop's corner and target size: the view, whole."""
        size = float(self.vae.view_size)
        return [size, size, 0.0, 0.0, size, size]


class TransformerDiffusion(LatentDiffusion):
    """Version 3: a transformer over latent patches and context together."""

    def __init__(
        self,
        *,
        vae: Vae,
        denoiser: Any,
        process: Process,
        config: StableDiffusion3Config,
    ) -> None:
        super().__init__(vae=vae, denoiser=denoiser, process=process, config=config)
        self.empty_t5_tokens = config.empty_t5_tokens

    def joint_context(self, context: Tensor) -> Tensor:
        """context (B, K, Dc) -> (B, K + T5's tokens, T5's width), zeros for what is absent."""
        missing = self.denoiser.config.joint_attention_dim - context.shape[2]
        return F.pad(context, (0, missing, 0, self.empty_t5_tokens))

    def _denoise(self, noisy: Tensor, t: Tensor, context: Tensor, pooled: Tensor | None) -> Tensor:
        answer: Tensor = self.denoiser(
            hidden_states=noisy,
            timestep=t,
            encoder_hidden_states=self.joint_context(context),
            pooled_projections=pooled,
            return_dict=False,
        )[0]
        return answer


def build(config: StableDiffusionConfig, near: Near) -> UnetDiffusion:
    """Versions 1 and 2."""
    return _build_unet(config, near, embeds=None)


def build_xl(config: StableDiffusionConfig, near: Near) -> UnetDiffusion:
    """XL."""
    return _build_unet(config, near, embeds="text_time")


def build_3(config: StableDiffusion3Config, near: Near) -> TransformerDiffusion:
    """Version 3."""
    check_architecture(config)
    table = config.architecture["transformer"]
    denoiser = _denoiser("transformer", table, SD3Transformer2DModel)
    sizes = denoiser.config
    if near.context_dim > sizes.joint_attention_dim:
        raise ConfigError(
            f"context is {near.context_dim} wide, but transformer.joint_attention_dim is "
            f"{sizes.joint_attention_dim}",
            hint="text encoders and transformer must be of one model",
        )
    return TransformerDiffusion(
        vae=Vae(config.architecture["vae"], view_size=near.view_size, multiple=sizes.patch_size),
        denoiser=denoiser,
        process=process(config.architecture["scheduler"], times=config.times),
        config=config,
    )


def _build_unet(config: StableDiffusionConfig, near: Near, *, embeds: str | None) -> UnetDiffusion:
    check_architecture(config)
    denoiser = _denoiser("unet", config.architecture["unet"], UNet2DConditionModel)
    found = denoiser.config.addition_embed_type
    if found != embeds:
        raise ConfigError(
            f"unet.addition_embed_type is {found!r}, but this decoder's is {embeds!r}",
            hint="stable-diffusion is 1.x and 2.x, stable-diffusion-xl XL",
        )
    if near.context_dim:
        width = denoiser.config.cross_attention_dim
        _check("unet.cross_attention_dim", width, "context", near.context_dim)
    return UnetDiffusion(
        vae=Vae(config.architecture["vae"], view_size=near.view_size),
        denoiser=denoiser,
        process=process(config.architecture["scheduler"]),
        config=config,
    )


def _denoiser(name: str, table: Mapping[str, Any], kind: Any) -> Any:
    known = {kind.__name__: kind}
    return known_class(table.get("_class_name", kind.__name__), known, where=name).from_config(
        dict(table)
    )


def _check(what: str, found: int, other: str, due: int) -> None:
    if found != due:
        raise ConfigError(
            f"{what} is {found}, but the {other}'s is {due}",
            hint="all sub-models must be of one published model",
        )
