"""The VAE between the view and scaled latents."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from vlv_core.errors import ConfigError
from vlv_plugins._hub import fill, known_class

CLAMP = (-30.0, 20.0)
"""of the posterior's log-variance, as diffusers has it"""
RENAMED = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}
"""names of attention layers in files older than diffusers 0.17, such as those of 1.5 and 2.1"""


class Vae(nn.Module):
    """view uint8 (B, S, S, 3) <-> latents (B, C, h, w) of about unit variance."""

    def __init__(self, table: Mapping[str, Any], *, view_size: int, multiple: int = 1) -> None:
        super().__init__()
        kind = known_class(
            table.get("_class_name", "AutoencoderKL"), {"AutoencoderKL": AutoencoderKL}, where="vae"
        )
        self.model: Any = kind.from_config(dict(table))
        config = self.model.config
        if config.latents_mean is not None or config.latents_std is not None:
            raise ConfigError("vae: latents_mean and latents_std are not supported")
        self.scale: float = config.scaling_factor
        self.shift: float = config.shift_factor or 0.0
        self.view_size = view_size
        fold = 2 ** (len(config.block_out_channels) - 1)
        if view_size % (fold * multiple):
            raise ConfigError(
                f"view.size is {view_size}, but this model needs a multiple of {fold * multiple}"
            )
        edge = view_size // fold
        self.latent_shape: tuple[int, int, int] = (config.latent_channels, edge, edge)

    def moments(self, view: Tensor) -> Tensor:
        """The posterior's mean and log-variance, float32 (B, 2 C, h, w)."""
        pixels = 2 * (view.to(self.model.dtype) / 255) - 1
        # In the view's own memory order torch's group norm is up to 1e-2 off on a CPU.
        posterior = self.model.encode(pixels.permute(0, 3, 1, 2).contiguous()).latent_dist
        parameters: Tensor = posterior.parameters
        return parameters.float()

    def latents(self, moments: Tensor, noise: Tensor) -> Tensor:
        """A draw from the posterior: (mean + deviation noise - shift) scale."""
        mean, log_variance = moments.float().chunk(2, dim=1)
        drawn = mean + torch.exp(0.5 * log_variance.clamp(*CLAMP)) * noise
        return (drawn - self.shift) * self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures float32 (B, S, S, 3) in 0..1."""
        raw = latents.float() / self.scale + self.shift
        pixels = self.model.decode(raw.to(self.model.dtype), return_dict=False)[0]
        return (pixels.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)


def load_published_vae(model: nn.Module, tensors: Mapping[str, Tensor]) -> set[str]:
    """Fill a VAE from a published file, old or new. Raises ModelError unless it fits."""
    renamed = {}
    for name, tensor in tensors.items():
        for old, new in RENAMED.items():
            name = name.replace(old, new)  # noqa: PLW2901
        renamed[name] = tensor
    return fill(model, renamed, where="vae")
