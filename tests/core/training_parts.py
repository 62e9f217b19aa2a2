"""A VLV of parts a few numbers wide, with dropout everywhere that a frozen part could leak it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vlv_core.bottleneck import QueryBottleneck
from vlv_core.connector import Mlp
from vlv_core.model import VLV
from vlv_core.protocols import Conditioning, Sample
from vlv_core.recipe import Data, Stage
from vlv_core.sampling import Schedule
from vlv_core.specs import Near, PixelSpec, View

SIZE = 8
WORDS = list("abcdefgh")
EOS = len(WORDS)


class TinyEncoder(nn.Module):
    """4 tokens, one a quadrant. Counts the pictures it encodes."""

    num_tokens, dim = 4, 16
    pixels = PixelSpec(size=SIZE)

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Linear(3 * 16, 16)
        self.block = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Dropout(0.2))
        self.pictures = 0

    def forward(self, view: Tensor) -> Tensor:
        self.pictures += len(view)
        x = view.to(torch.float32) / 127.5 - 1
        x = x.unflatten(1, (2, 4)).unflatten(3, (2, 4)).permute(0, 1, 3, 2, 4, 5)
        x = self.patch(x.flatten(3).flatten(1, 2))
        return x + self.block(x)


class TinyCondition(nn.Module):
    embedding_dim = context_dim = 8
    max_queries = 8
    causal = True

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.drop = nn.Dropout(0.3)

    def forward(self, z: Tensor) -> Conditioning:
        context = self.drop(torch.tanh(self.layer(z)))
        return Conditioning(context, context.mean(1))

    def unconditional(self, length: int) -> Conditioning:
        return self(torch.zeros(1, length, 8))


class TinyDiffusion(nn.Module):
    """Latents are 3 x 4 x 4 means of pixels; the denoiser sees context through its mean."""

    latent_shape = (3, 4, 4)
    prediction = "flow"
    train_steps = 1000

    def __init__(self) -> None:
        super().__init__()
        self.vae = nn.Linear(3, 6)
        self.net = nn.Sequential(nn.Linear(48 + 8 + 1, 32), nn.GELU(), nn.Dropout(0.3))
        self.out = nn.Linear(32, 48)
        self.pictures = 0

    def moments(self, view: Tensor) -> Tensor:
        self.pictures += len(view)
        x = view.to(torch.float32).unflatten(1, (4, 2)).unflatten(3, (4, 2)).mean(dim=(2, 4))
        return self.vae(x / 127.5 - 1).permute(0, 3, 1, 2)

    def latents(self, moments: Tensor, noise: Tensor) -> Tensor:
        mean, log_std = moments.chunk(2, dim=1)
        return mean + (log_std - 3).exp() * noise

    def timesteps(self, u: Tensor) -> Tensor:
        return u

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        x = torch.cat([noisy.flatten(1), conditioning.context.mean(1), t[:, None]], dim=1)
        return self.out(self.net(x)).view_as(noisy)

    def loss(
        self, latents: Tensor, conditioning: Conditioning, *, noise: Tensor, t: Tensor
    ) -> Tensor:
        mix = t[:, None, None, None]
        noisy = (1 - mix) * latents + mix * noise
        error = self.predict(noisy, t, conditioning) - (noise - latents)
        return error.square().mean(dim=(1, 2, 3))

    def decode(self, latents: Tensor) -> Tensor:
        pictures = latents.permute(0, 2, 3, 1).repeat_interleave(2, 1).repeat_interleave(2, 2)
        return pictures.sigmoid()

    def schedule(self) -> Schedule:
        return Schedule(prediction="flow")


class TinyHead(nn.Module):
    """Sees the prefix's mean and the word before."""

    dim, vocab_size, eos, max_length = 12, EOS + 2, (EOS,), 32

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(EOS + 2, 12)
        self.layer = nn.Sequential(nn.Linear(12, 12), nn.GELU(), nn.Dropout(0.1))
        self.lm_head = nn.Linear(12, EOS + 2)

    def tokenize(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        rows = [[*map(WORDS.index, words.split()), EOS] for words in captions]
        longest = max(map(len, rows))
        ids = [row + [EOS + 1] * (longest - len(row)) for row in rows]
        mask = [[True] * len(row) + [False] * (longest - len(row)) for row in rows]
        return torch.tensor(ids), torch.tensor(mask)

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(WORDS[i] for i in ids if i < EOS)

    def logits(self, prefix: Tensor, ids: Tensor) -> Tensor:
        before = torch.cat([torch.full_like(ids[:, :1], EOS + 1), ids[:, :-1]], dim=1)
        return self.lm_head(self.layer(self.words(before) + prefix.mean(1, keepdim=True)))

    def loss(self, prefix: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        logits = self.logits(prefix, ids).float()
        each = nn.functional.cross_entropy(logits.transpose(1, 2), ids, reduction="none")
        return (each * mask).sum(1)


class Pictures:
    """n pictures of noise with captions; `broken` ones cannot be read."""

    def __init__(self, n: int = 24, *, broken: Sequence[int] = (), captions: bool = True) -> None:
        self.n, self.broken, self.captions = n, set(broken), captions

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Sample:
        words = " ".join(WORDS[(index + i) % EOS] for i in range(1 + index % 4))
        return Sample(
            f"picture-{index}", lambda: self.load(index), words if self.captions else None
        )

    def load(self, index: int) -> Any:
        if index in self.broken:
            raise OSError("truncated")
        stream = np.random.Generator(np.random.Philox(key=index))
        return stream.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)

    def describe(self) -> Mapping[str, Any]:
        return {"pictures": self.n}


def tiny_vlv(seed: int = 0) -> VLV:
    torch.manual_seed(seed)
    return VLV(
        view=View(size=SIZE),
        encoder=TinyEncoder(),
        bottleneck=QueryBottleneck(num_queries=4, width=16, depth=1, heads=2, token_dim=16, dim=8),
        condition=TinyCondition(),
        diffusion=TinyDiffusion(),
        connector=Mlp(context_dim=8, hidden=12, depth=2, dim=12),
        head=TinyHead(),
    )


def stage(train: Sequence[str], **changes: Any) -> Stage:
    defaults: dict[str, Any] = {"steps": 9, "batch": 8, "lr": 1e-2, "log_every": 1, "seed": 5}
    return Stage(train=tuple(train), data=Data(dataset="tiny"), **{**defaults, **changes})


PLUGIN = '''\
"""The tiny parts as a local plugin file."""

from vlv_core import DatasetSpec, DecoderSpec, EncoderSpec, HeadSpec, hookimpl

HERE = "tests.core.training_parts:"


@hookimpl
def vlv_encoders():
    return [EncoderSpec(name="tiny-encoder", summary="tiny", build=HERE + "build_encoder")]


@hookimpl
def vlv_decoders():
    where = {"build": HERE + "build_condition", "diffusion": HERE + "build_diffusion"}
    return [DecoderSpec(name="tiny-t2i", summary="tiny", **where)]


@hookimpl
def vlv_heads():
    return [HeadSpec(name="tiny-lm", summary="tiny", build=HERE + "build_head")]


@hookimpl
def vlv_datasets():
    from tests.core.training_parts import PicturesConfig

    return [
        DatasetSpec(
            name="tiny", summary="noise", open=HERE + "open_pictures", config=PicturesConfig
        )
    ]
'''

RECIPE = """\
name = "tiny"
seed = 7
domain = "noise of 8 x 8 pixels"
view = { size = 8 }

[encoder]
plugin = "tiny-encoder"
[bottleneck]
plugin = "query"
num_queries = 4
depth = 1
heads = 2
[decoder]
plugin = "tiny-t2i"
[connector]
plugin = "mlp"
[head]
plugin = "tiny-lm"

[stage1]
train = ["encoder", "bottleneck"]
steps = 6
batch = 8
lr = 1e-2
ema = 0.9
log_every = 2
strip_every = 3
data = { dataset = "tiny", broken = [3] }

[stage2]
train = ["bottleneck", "connector", "head"]
steps = 6
batch = 8
lr = 1e-2
log_every = 2
cache = "auto"
data = { dataset = "tiny" }
"""


@dataclass(frozen=True)
class PicturesConfig:
    broken: tuple[int, ...] = ()
    captions: bool = True


def open_pictures(config: PicturesConfig, root: Path) -> Pictures:
    return Pictures(broken=config.broken, captions=config.captions)


def build_encoder(config: None, near: Near) -> TinyEncoder:
    return TinyEncoder()


def build_condition(config: None, near: Near) -> TinyCondition:
    return TinyCondition()


def build_diffusion(config: None, near: Near) -> TinyDiffusion:
    return TinyDiffusion()


def build_head(config: None, near: Near) -> TinyHead:
    return TinyHead()


def write_recipe(folder: Path) -> tuple[Path, Path]:
    """The recipe and the plugin file, written into `folder`."""
    recipe, plugin = folder / "tiny.toml", folder / "vlv_tiny_parts.py"
    recipe.write_text(RECIPE)
    plugin.write_text(PLUGIN)
    return recipe, plugin
