"""The diffusion half of `mini-t2i`: a VAE and a small diffusion transformer, rectified flow.

The transformer (Peebles and Xie, 2022) predicts the clean latent; its loss is taken on the velocity
(x-prediction with v-loss, Li and He, 2025), and one modulation network serves all blocks (PixArt).
"""

import math

import torch
from torch import Tensor, nn

from vlv_core import Conditioning, Near
from vlv_core.layers import Attention, FeedForward
from vlv_core.sampling import Schedule
from vlv_core.specs import Prediction
from vlv_plugins.mini._vae import Vae, to_pixels
from vlv_plugins.mini.config import T2iConfig

LATENT_EDGE = 8
T_MIN = 0.05
"""least time by which a velocity is divided; below it x-prediction would blow errors up"""
TRAIN_STEPS = 1000
TIME_MEAN = 0.4
"""of the times' logits: a little towards noise, where the condition decides what is drawn"""


class Modulated(nn.Module):
    """Transformer block whose norms are shifted and scaled, and branches gated, by time."""

    def __init__(self, width: int, heads: int, context_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = Attention(width, heads)
        self.norm_cross = nn.LayerNorm(width)
        self.cross = Attention(width, heads, context_dim=context_dim)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = FeedForward(width)
        self.table = nn.Parameter(torch.zeros(6, width))

    def forward(self, x: Tensor, context: Tensor, modulation: Tensor) -> Tensor:
        """x (B, N, W), context (B, L, Dc), modulation (B, 6, W)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (
            (modulation + self.table).unsqueeze(2).unbind(1)
        )
        x = x + (1 + gate1) * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        x = x + self.cross(self.norm_cross(x), context)
        return x + (1 + gate2) * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class Dit(nn.Module):
    """noisy (B, C, 8, 8), t in 0..1 (B,), context (B, L, Dc) -> clean latents (B, C, 8, 8)."""

    def __init__(
        self, *, channels: int, patch: int, width: int, depth: int, heads: int, context_dim: int
    ) -> None:
        super().__init__()
        self.patch = patch
        self.width = width
        tokens = (LATENT_EDGE // patch) ** 2
        self.fold = nn.PixelUnshuffle(patch)
        self.unfold = nn.PixelShuffle(patch)
        self.embed = nn.Linear(channels * patch * patch, width)
        self.positions = nn.Parameter(torch.randn(tokens, width) * 0.1)
        self.time = nn.Sequential(
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(Modulated(width, heads, context_dim) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, channels * patch * patch)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, noisy: Tensor, t: Tensor, context: Tensor) -> Tensor:
        folded = self.fold(noisy.to(self.embed.weight.dtype))
        x = self.embed(folded.flatten(2).transpose(1, 2)) + self.positions
        modulation = self.modulation(self.time(time_features(t, self.width).to(x.dtype)))
        modulation = modulation.unflatten(1, (6, self.width))
        for block in self.blocks:
            x = block(x, context, modulation)
        x = self.out(self.norm(x)).transpose(1, 2)
        return self.unfold(x.unflatten(2, tuple(folded.shape[2:])))


def time_features(t: Tensor, width: int) -> Tensor:
    """Sinusoids of t in 0..1, (B,) -> (B, width)."""
    half = width // 2
    rates = torch.exp(torch.arange(half, device=t.device) * (-math.log(1000.0) / half))
    angles = 1000.0 * t.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class MiniDiffusion(nn.Module):
    """Rectified flow in the VAE's latents: x_t = (1 - t) x_0 + t noise, velocity noise - x_0."""

    prediction: Prediction = "flow"
    train_steps = TRAIN_STEPS
    scale: Tensor
    shift: Tensor

    def __init__(self, *, vae: Vae, dit: Dit, channels: int) -> None:
        super().__init__()
        self.vae = vae
        self.dit = dit
        self.latent_shape = (channels, LATENT_EDGE, LATENT_EDGE)
        self.register_buffer("scale", torch.ones(channels, 1, 1))
        self.register_buffer("shift", torch.zeros(channels, 1, 1))

    def moments(self, view: Tensor) -> Tensor:
        return self.vae.moments(to_pixels(view, self.scale.dtype))

    def latents(self, moments: Tensor, noise: Tensor) -> Tensor:
        return (self.vae.sample(moments, noise) - self.shift) * self.scale

    def timesteps(self, u: Tensor) -> Tensor:
        """Logit-normal times (Esser et al., 2024), in 0..train_steps."""
        normal = torch.special.ndtri(u.double().clamp(1e-6, 1 - 1e-6)).float()
        return torch.sigmoid(normal + TIME_MEAN) * TRAIN_STEPS

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """The velocity, from the predicted clean latent."""
        time = t / TRAIN_STEPS
        clean = self.dit(noisy, time, conditioning.context)
        return (noisy - clean) / time.clamp(min=T_MIN)[:, None, None, None]

    def loss(
        self, latents: Tensor, conditioning: Conditioning, *, noise: Tensor, t: Tensor
    ) -> Tensor:
        """Mean squared error of the velocity, (B,)."""
        time = (t / TRAIN_STEPS)[:, None, None, None]
        noisy = (1 - time) * latents + time * noise
        error = self.predict(noisy, t, conditioning).float() - (noisy - latents) / time.clamp(
            min=T_MIN
        )
        return error.square().mean(dim=(1, 2, 3))

    def decode(self, latents: Tensor) -> Tensor:
        pixels = self.vae.decode(latents / self.scale + self.shift)
        return ((pixels.float() + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1)

    def schedule(self) -> Schedule:
        return Schedule(prediction="flow")


def build(config: T2iConfig, near: Near) -> MiniDiffusion:
    """Architecture only."""
    vae = Vae(width=config.vae_width, channels=config.latent_channels)
    dit = Dit(
        channels=config.latent_channels,
        patch=config.patch,
        width=config.width,
        depth=config.depth,
        heads=config.heads,
        context_dim=near.context_dim or config.text_width,
    )
    return MiniDiffusion(vae=vae, dit=dit, channels=config.latent_channels)
