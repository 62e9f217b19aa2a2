"""The smallest parts that keep each contract, for tests of what checks and composes parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vlv_core.layers import Block
from vlv_core.protocols import Conditioning, TopK
from vlv_core.sampling import Schedule
from vlv_core.specs import DecoderSpec, EncoderSpec, HeadSpec, Near, PixelSpec

LETTERS = "\0abcdefghijklmnopqrstuvwxyz "
"""the toys' vocabulary; 0 ends a text and pads it"""


@dataclass(frozen=True)
class ToyConfig:
    width: int = 16


class ToyEncoder(nn.Module):
    """view uint8 (B, S, S, 3) -> tokens (B, 4, De): one linear map of each quarter's mean."""

    def __init__(self, *, size: int, width: int) -> None:
        super().__init__()
        self.pixels = PixelSpec(size=size)
        self.num_tokens, self.dim = 4, width
        self.embed = nn.Linear(3, width)

    def forward(self, view: Tensor) -> Tensor:
        half = view.shape[1] // 2
        x = view.to(self.embed.weight.dtype) / 255
        return self.embed(
            x.unflatten(1, (2, half)).unflatten(3, (2, half)).mean((2, 4)).flatten(1, 2)
        )


def letters(captions: Sequence[str], length: int) -> Tensor:
    """ids (B, length), ended and padded by 0; cut where too long."""
    ids = torch.zeros(len(captions), length, dtype=torch.long)
    for row, caption in zip(ids, captions, strict=True):
        words = [LETTERS.index(letter) for letter in caption[: length - 1]]
        row[: len(words)] = torch.tensor(words, dtype=torch.long)
    return ids


class ToyCondition(nn.Module):
    """z (B, K, Dz) -> context (B, K, Dc) by one causal block; pooled is the mean of z."""

    causal = True

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.embedding_dim = self.context_dim = width
        self.max_queries = 40
        self.embed = nn.Embedding(len(LETTERS), width)
        self.block = Block(width, 2, causal=True)

    def forward(self, z: Tensor) -> Conditioning:
        return Conditioning(self.block(z), z.mean(1))

    def from_text(self, captions: Sequence[str]) -> tuple[Conditioning, list[int]]:
        cut = [max(0, len(caption) - self.max_queries + 1) for caption in captions]
        return self(self.embed(letters(captions, self.max_queries))), cut

    def unconditional(self, length: int) -> Conditioning:
        whole, _ = self.from_text([""])
        return Conditioning(whole.context[:, :length], whole.pooled)


class ToyDiffusion(nn.Module):
    """Rectified flow on 8 x 8 x 3 pictures; the "VAE" is average pooling."""

    prediction = "flow"
    train_steps = 10

    def __init__(self, *, size: int, context_dim: int) -> None:
        super().__init__()
        self.latent_shape = (3, 8, 8)
        self.size = size
        self.mix = nn.Linear(context_dim, 3)
        nn.init.zeros_(self.mix.weight)

    def moments(self, view: Tensor) -> Tensor:
        x = view.permute(0, 3, 1, 2).to(self.mix.weight.dtype)
        return nn.functional.avg_pool2d(x / 127.5 - 1, self.size // 8)

    def latents(self, moments: Tensor, noise: Tensor) -> Tensor:
        return moments + 0.01 * noise

    def timesteps(self, u: Tensor) -> Tensor:
        return u * self.train_steps

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        shift = self.mix(conditioning.context).sin().mean(1)
        return noisy * (t / self.train_steps)[:, None, None, None] + shift[:, :, None, None]

    def loss(
        self, latents: Tensor, conditioning: Conditioning, *, noise: Tensor, t: Tensor
    ) -> Tensor:
        s = (t / self.train_steps)[:, None, None, None]
        made = self.predict((1 - s) * latents + s * noise, t, conditioning)
        return (made - (noise - latents)).square().mean((1, 2, 3))

    def decode(self, latents: Tensor) -> Tensor:
        wide = nn.functional.interpolate(latents, size=(self.size, self.size))
        return ((wide + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1)

    def schedule(self) -> Schedule:
        return Schedule(prediction="flow", train_steps=self.train_steps)


class ToyHead(nn.Module):
    """One causal block over prefix and letters."""

    eos = (0,)

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.dim, self.vocab_size, self.max_length = width, len(LETTERS), 64
        self.embed = nn.Embedding(len(LETTERS), width)
        self.positions = nn.Parameter(torch.randn(self.max_length, width))
        self.block = Block(width, 2, causal=True)
        self.readout = nn.Linear(width, len(LETTERS))

    def log_probs(self, embeddings: Tensor) -> Tensor:
        """embeddings (B, L, Dl) -> (B, L, V), of the token after each position."""
        x = self.block(embeddings + self.positions[: embeddings.shape[1]])
        return self.readout(x).log_softmax(-1)

    def tokenize(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        length = 1 + max(map(len, captions))
        sizes = torch.tensor([len(caption) for caption in captions])
        return letters(captions, length), torch.arange(length) <= sizes[:, None]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(LETTERS[token] for token in ids)

    def loss(self, prefix: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        logs = self.log_probs(torch.cat([prefix, self.embed(ids[:, :-1])], 1))
        taken = logs[:, prefix.shape[1] - 1 :].gather(2, ids[:, :, None])[..., 0]
        return -(taken * mask).sum(1)

    def start(self, prefix: Tensor, capacity: int) -> "ToyStepper":
        return ToyStepper(self, prefix, capacity)


class ToyStepper:
    """Computes everything anew at each step, and so has nothing to get wrong but its rows."""

    def __init__(self, head: ToyHead, prefix: Tensor, capacity: int) -> None:
        self.head, self.rows, self.capacity = head, prefix, capacity

    def prefill(self, k: int) -> TopK:
        with torch.no_grad():
            values, ids = self.head.log_probs(self.rows)[:, -1].topk(k)
        return TopK(values.numpy(), ids.numpy())

    def step(self, tokens: NDArray[np.int64], k: int) -> TopK:
        new = self.head.embed(torch.from_numpy(tokens))[:, None]
        self.rows = torch.cat([self.rows, new.detach()], 1)
        return self.prefill(k)

    def select(self, rows: NDArray[np.int64]) -> None:
        self.rows = self.rows[torch.from_numpy(rows)]


def build_encoder(config: ToyConfig, near: Near) -> ToyEncoder:
    return ToyEncoder(size=near.view_size, width=config.width)


def build_condition(config: ToyConfig, near: Near) -> ToyCondition:
    return ToyCondition(width=config.width)


def build_diffusion(config: ToyConfig, near: Near) -> ToyDiffusion:
    return ToyDiffusion(size=near.view_size, context_dim=near.context_dim)


def build_head(config: ToyConfig, near: Near) -> ToyHead:
    return ToyHead(width=config.width)


def _common(name: str) -> dict[str, Any]:
    build = f"tests.core.toy_parts:build_{name}"
    return {"name": f"toy-{name}", "summary": "a toy", "build": build, "config": ToyConfig}


ENCODER = EncoderSpec(**_common("encoder"))
DECODER = DecoderSpec(**_common("condition"), diffusion="tests.core.toy_parts:build_diffusion")
HEAD = HeadSpec(**_common("head"))
