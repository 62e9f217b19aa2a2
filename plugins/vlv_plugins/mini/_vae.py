"""The bundled VAE: 64 x 64 x 3 pictures <-> 8 x 8 latents, mostly at a quarter of the resolution.

Pixels are folded 4 x 4 into channels first, so that convolutions run on 16 x 16 grids.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FOLD = 4
"""pixels folded into channels, per edge"""


class Residual(nn.Module):
    """x + conv(silu(conv(silu(norm(x))))), (B, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(self.norm(x)))))


class Vae(nn.Module):
    """A variational auto-encoder with diagonal Gaussian posterior (Kingma and Welling, 2013)."""

    def __init__(self, *, width: int, channels: int) -> None:
        super().__init__()
        wide = width * 3 // 2
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(FOLD),
            nn.Conv2d(3 * FOLD * FOLD, width, 3, padding=1),
            Residual(width),
            nn.Conv2d(width, wide, 2, stride=2),
            Residual(wide),
            Residual(wide),
            nn.Conv2d(wide, 2 * channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, wide, 3, padding=1),
            Residual(wide),
            Residual(wide),
            nn.ConvTranspose2d(wide, width, 2, stride=2),
            Residual(width),
            Residual(width),
            nn.Conv2d(width, 3 * FOLD * FOLD, 3, padding=1),
            nn.PixelShuffle(FOLD),
        )

    def moments(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, H, W) in -1..1 -> mean and log-variance, (B, 2C, H/8, W/8)."""
        mean, log_variance = self.encoder(pixels).chunk(2, dim=1)
        return torch.cat([mean, log_variance.clamp(-12.0, 4.0)], dim=1)

    def sample(self, moments: Tensor, noise: Tensor) -> Tensor:
        """moments, noise (B, C, h, w) -> latents before scale and shift."""
        mean, log_variance = moments.chunk(2, dim=1)
        return mean + (0.5 * log_variance).exp() * noise

    def decode(self, latents: Tensor) -> Tensor:
        """latents (B, C, h, w) before scale and shift -> pixels (B, 3, H, W), about -1..1."""
        return self.decoder(latents)


def to_pixels(view: Tensor, dtype: torch.dtype) -> Tensor:
    """view uint8 (B, S, S, 3) -> pixels (B, 3, S, S) in -1..1."""
    return (view.to(dtype) / 127.5 - 1.0).permute(0, 3, 1, 2)
