"""The method's training loop, written as its paper and its official release go about it.

Zhang et al., arXiv 2507.07104. Kept of theirs, because it is what the loop costs: a background
loader makes views and nothing else; inside the step the encoder's processor resizes each view, and
the VAE, the encoder and all other frozen parts run anew for pictures seen before; captions are
padded to one fixed length, and the head's output layer runs over the prefix and the padding too;
the loss is read back at every step.
Not kept, because another loss would come out: end of text left out of the loss, dropout inside
frozen parts. So that both do the same work, parts, data order, optimiser, learning rate and
clipping are those of `vlv_core.training`.

Shape legend: B batch, S view edge, M prefix, L caption as padded, Dl head width.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vlv_core.data.order import indices
from vlv_core.model import VLV
from vlv_core.prefetch import prefetch
from vlv_core.preprocess import to_pixels, to_view
from vlv_core.protocols import Dataset
from vlv_core.recipe import Stage
from vlv_core.training.freeze import StageModules
from vlv_core.training.optim import Optimizer
from vlv_core.training.schedule import learning_rate

UNSUPERVISED = -100
"""what cross_entropy leaves out"""
CHECKPOINTED = "gradient_checkpointing"
"""a head's option, which its own loss heeds; this loop does not go through that"""


class Loaded(NamedTuple):
    """What the loader gives: views uint8 (B, S, S, 3), and captions for stage 2."""

    views: NDArray[np.uint8]
    captions: Sequence[str]


class Draws(NamedTuple):
    """Stage 1's random numbers."""

    posterior: Tensor
    """(B, *latent)"""
    noise: Tensor
    """(B, *latent)"""
    u: Tensor
    """(B,) in [0, 1), from which times are made"""


class PlainTraining:
    """One stage. Iterating `run` makes a step and answers its loss."""

    def __init__(
        self,
        model: VLV,
        dataset: Dataset,
        stage: Stage,
        *,
        number: int,
        padded: int = 300,
        unconditional: bool = False,
    ) -> None:
        """padded: tokens of every caption; unconditional: compute the empty prompt at every step,
        as the release does at every drawing, though no training loss needs it."""
        self.model, self.dataset, self.stage = model, dataset, stage
        self.number, self.padded, self.unconditional = number, padded, unconditional
        self.modules = StageModules(model, stage.train, stage=number)
        self.optimizer = Optimizer(self.modules.trainable, modules=self.modules, options=stage)
        if number == 2 and getattr(getattr(model.head, "config", None), CHECKPOINTED, False):
            model.head.lm.activation_checkpointing_enable({"use_reentrant": False})
        self.generator = torch.Generator().manual_seed(stage.seed)

    def run(self) -> Iterator[float]:
        jobs = [(step, self._positions(step)) for step in range(self.stage.steps)]
        batches = prefetch(self._load, jobs, workers=self.stage.workers)
        for step, batch in enumerate(batches):
            yield self._step(step, batch)

    def loss(self, batch: Loaded, draws: Draws | None = None) -> Tensor:
        """Mean over pictures in stage 1, over words in stage 2."""
        if self.unconditional:
            self.model.condition.from_text([""])
        if self.number == 2:
            return self._words(batch)
        return self._denoising(batch, draws or self._draws(len(batch.views)))

    def _step(self, step: int, batch: Loaded) -> float:
        stage = self.stage
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=stage.dtype == "bfloat16"):
            loss = self.loss(batch)
        loss.backward()
        if stage.clip:
            torch.nn.utils.clip_grad_norm_([p for _, p in self.modules.trainable], stage.clip)
        self.optimizer.step(
            learning_rate(
                step,
                peak=stage.lr,
                steps=stage.steps,
                schedule=stage.schedule,
                warmup_steps=stage.warmup_steps,
            )
        )
        for _, parameter in self.modules.trainable:
            parameter.grad = None
        return loss.item()

    def _context(self, views: NDArray[np.uint8]) -> Any:
        """The conditioning of views, from the encoder's own resizing on."""
        pixels = torch.from_numpy(to_pixels(views, self.model.encoder.pixels))
        return self.model.condition(self.model.bottleneck(self.model.encoder(pixels)))

    def _denoising(self, batch: Loaded, draws: Draws) -> Tensor:
        diffusion = self.model.diffusion
        with torch.no_grad():
            moments = diffusion.moments(torch.from_numpy(batch.views))
            latents = diffusion.latents(moments, draws.posterior)
        t = diffusion.timesteps(draws.u)
        return diffusion.loss(latents, self._context(batch.views), noise=draws.noise, t=t).mean()

    def _words(self, batch: Loaded) -> Tensor:
        """Every position of prefix and padded caption goes through the output layer."""
        ids, mask = self._padded(batch.captions)
        prefix = self.model.connector(self._context(batch.views).context)
        logits = _logits(self.model.head, prefix, ids)
        labels = torch.where(mask, ids, UNSUPERVISED)
        before = labels.new_full((len(ids), prefix.shape[1]), UNSUPERVISED)
        labels = torch.cat([before, labels], dim=1)
        return F.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(),
            labels[:, 1:].flatten(),
            ignore_index=UNSUPERVISED,
        )

    def _padded(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """ids, mask (B, L): end of text as padding, longer captions cut."""
        head = self.model.head
        ids, mask = head.tokenize(captions)
        missing = max(0, self.padded - ids.shape[1])
        ids = F.pad(ids, (0, missing), value=head.eos[0])[:, : self.padded]
        return ids, F.pad(mask, (0, missing))[:, : self.padded]

    def _draws(self, count: int) -> Draws:
        shape = (count, *self.model.diffusion.latent_shape)
        return Draws(
            posterior=torch.randn(shape, generator=self.generator),
            noise=torch.randn(shape, generator=self.generator),
            u=torch.rand(count, generator=self.generator),
        )

    def _positions(self, step: int) -> range:
        return range(step * self.stage.batch, (step + 1) * self.stage.batch)

    def _load(self, step: int, at: range) -> Loaded:
        del step
        rows = indices(self.stage.seed, len(self.dataset), at.start, len(at))
        several = getattr(self.dataset, "samples", None)
        samples = several([*map(int, rows)]) if several else [self.dataset[int(i)] for i in rows]
        views = np.stack([to_view(sample.load(), self.model.view) for sample in samples])
        return Loaded(views, [sample.caption or "" for sample in samples])


def _logits(head: Any, prefix: Tensor, ids: Tensor) -> Tensor:
    """(B, M + L, V) of a transformers model, or of one laid out as `mini-lm` is."""
    if hasattr(head, "lm"):
        words = head.lm.get_input_embeddings()(ids)
        inputs = torch.cat([prefix.to(words.dtype), words], dim=1)
        found: Tensor = head.lm(inputs_embeds=inputs, use_cache=False).logits
        return found
    words = head.model.embed_tokens(ids)
    logits: Tensor = head.logits(head.model(torch.cat([prefix.to(words.dtype), words], dim=1)))
    return logits
