"""The two stages of the method as tasks for the loop.

Stage 1: pictures alone; the frozen diffusion's denoising error teaches encoder and bottleneck.
Stage 2: captions; the head's likelihood teaches connector and head, and by recipe those before.

Shape legend: B batch, S view edge, N tokens, R noises a picture, L caption length.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vlv_core.data.order import indices
from vlv_core.data.quarantine import Quarantine, Readable, read_batch
from vlv_core.errors import ConfigError, DataError
from vlv_core.model import VLV
from vlv_core.preprocess import to_pixels
from vlv_core.protocols import Dataset
from vlv_core.randomness import Purpose, key_of, normal_rows, uniform_rows
from vlv_core.recipe import Stage
from vlv_core.training.cache import content_digests
from vlv_core.training.freeze import StageModules, is_frozen
from vlv_core.training.frozen import FrozenPass, open_caches
from vlv_core.training.shares import Shares
from vlv_core.training.task import Batch


class StageTask(ABC):
    """What both stages share: order, quarantine, frozen passes and their caches."""

    number: int
    name: str

    def __init__(
        self, model: VLV, dataset: Dataset, stage: Stage, *, quarantine: Quarantine
    ) -> None:
        self.model, self.dataset, self.stage = model, dataset, stage
        self.quarantine = quarantine
        self.modules = StageModules(model, stage.train, stage=self.number)
        self.passes = self._passes()
        self.shares = Shares()

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        return self.modules.trainable

    def batch(self, step: int, positions: range) -> Batch:
        rows = indices(self.stage.seed, len(self.dataset), positions.start, len(positions))
        found = read_batch(self.dataset, rows, view=self.model.view, quarantine=self.quarantine)
        if not found.keys:
            return Batch(())
        digests: list[bytes] = []
        if any(frozen.store is not None for frozen in self.passes):
            digests = content_digests(found.keys, found.views)
        tensors = self._targets(found, step=step)
        for frozen in self.passes:
            tensors |= frozen.collate(found.views, digests)
        return Batch(found.keys, tensors)

    @abstractmethod
    def loss(self, batch: Batch, *, step: int) -> tuple[Tensor, Tensor | float]:
        """The sum over the batch, and what it is a sum of."""

    def open_caches(self, folder: Path, *, config: str) -> list[str]:
        """Caches as the recipe wants them, on the device where the model is; what to tell the user.

        `config` stands for all that decides a frozen part's output beside its weights.
        """
        stage = self.stage
        if stage.cache == "off":
            return []
        if not self.passes:
            self._encoder_pass().check_frozen()
        seen = stage.steps * stage.batch
        if stage.cache == "auto" and seen <= len(self.dataset):
            return [f"cache: off, no sample is seen twice in {stage.steps} steps"]
        config = f"{config} {self.model.view} {stage.dtype} {self.model.device.type}"
        with self.autocast():
            layouts = [
                (frozen, frozen.layout(self.model.view.size, device=self.model.device))
                for frozen in self.passes
            ]
        return open_caches(
            layouts,
            folder,
            samples=min(seen, len(self.dataset)),
            cap_gib=stage.cache_gib,
            required=stage.cache == "require",
            config=config,
        )

    def autocast(self) -> torch.autocast:
        """What the loop computes under."""
        half = self.stage.dtype == "bfloat16"
        return torch.autocast(self.model.device.type, dtype=torch.bfloat16, enabled=half)

    @abstractmethod
    def _targets(self, found: Readable, *, step: int) -> dict[str, Tensor]:
        """What the loss compares with, and pixels for an encoder that trains."""

    @abstractmethod
    def _passes(self) -> list[FrozenPass]:
        """What frozen parts compute, and caches may remember."""

    def _run_passes(self, tensors: dict[str, Tensor], *, step: int) -> dict[str, Tensor]:
        self.shares.begin(step)
        outputs = {}
        for frozen in self.passes:
            outputs[frozen.name] = frozen.run(tensors)
            self.shares.spent(frozen.name, frozen.take_seconds())
        return outputs

    def _encoder_pass(self) -> FrozenPass:
        encoder = self.model.encoder
        return FrozenPass(
            "tokens",
            modules={"encoder": encoder},
            prepare=partial(to_pixels, pixels=encoder.pixels),
            compute=encoder,
        )

    def _pixels(self, found: Readable) -> dict[str, Tensor]:
        """The encoder's input, if it trains and no frozen pass stands for it."""
        if is_frozen(self.model.encoder):
            return {}
        return {"pixels": torch.from_numpy(to_pixels(found.views, self.model.encoder.pixels))}


class Stage1Task(StageTask):
    """Denoising error of the frozen diffusion under z's conditioning, a mean over pictures."""

    number, name = 1, "stage 1"

    def __init__(
        self, model: VLV, dataset: Dataset, stage: Stage, *, quarantine: Quarantine
    ) -> None:
        if model.diffusion is None:
            raise ConfigError(
                "stage 1 needs the decoder's diffusion, and this model was opened without it",
                hint="open the model with parts='all'",
            )
        super().__init__(model, dataset, stage, quarantine=quarantine)

    def loss(self, batch: Batch, *, step: int) -> tuple[Tensor, float]:
        tensors, diffusion = batch.tensors, self.model.diffusion
        outputs = self._run_passes(tensors, step=step)
        tokens = outputs["tokens"] if "tokens" in outputs else self.model.encoder(tensors["pixels"])
        losses = self.model.stage1_loss(
            tokens,
            diffusion.latents(outputs["moments"], tensors["posterior"]),
            noise=tensors["noise"].flatten(0, 1),
            t=diffusion.timesteps(tensors["u"].flatten()),
        )
        return losses.float().sum() / self.stage.noise_samples, float(len(batch.keys))

    def _targets(self, found: Readable, *, step: int) -> dict[str, Tensor]:
        """noise (B, R, *latent), u (B, R) in [0, 1), posterior (B, *latent), keyed by sample."""
        seed, draws = self.stage.seed, self.stage.noise_samples
        keys = [key_of(key) for key in found.keys]
        shape = self.model.diffusion.latent_shape
        noise = normal_rows(
            seed, purpose=Purpose.DIFFUSION_NOISE, step=step, keys=keys, shape=(draws, *shape)
        )
        posterior = normal_rows(
            seed, purpose=Purpose.LATENT_POSTERIOR, step=step, keys=keys, shape=shape
        )
        u = uniform_rows(seed, purpose=Purpose.DIFFUSION_TIME, step=step, keys=keys, shape=(draws,))
        # one time from each of R equal strata: the mean is the same, its variance lower
        u = ((np.arange(draws) + u) / draws).astype(np.float32)
        tensors = {"noise": noise, "posterior": posterior, "u": np.minimum(u, _BELOW_ONE)}
        return {k: torch.from_numpy(v) for k, v in tensors.items()} | self._pixels(found)

    def _passes(self) -> list[FrozenPass]:
        diffusion = self.model.diffusion
        moments = FrozenPass(
            "moments",
            modules={"diffusion": diffusion},
            prepare=np.ascontiguousarray,
            compute=diffusion.moments,
        )
        return [self._encoder_pass(), moments] if is_frozen(self.model.encoder) else [moments]


class Stage2Task(StageTask):
    """The head's negative log-likelihood of captions, a mean over their tokens and end of text."""

    number, name = 2, "stage 2"

    def loss(self, batch: Batch, *, step: int) -> tuple[Tensor, Tensor]:
        tensors, model = batch.tensors, self.model
        outputs = self._run_passes(tensors, step=step)
        ids, mask = tensors["ids"], tensors["mask"]
        if "context" in outputs:
            losses = model.head.loss(model.connector(outputs["context"]), ids, mask)
        else:
            tokens = outputs["tokens"] if "tokens" in outputs else model.encoder(tensors["pixels"])
            losses = model.stage2_loss(tokens, ids, mask)
        return losses.float().sum(), mask.sum()

    def _targets(self, found: Readable, *, step: int) -> dict[str, Tensor]:
        """ids (B, L) with end of text, mask (B, L) of what counts; L is the batch's longest."""
        del step
        captions = _captions(found)
        ids, mask = self.model.head.tokenize(captions)
        return {"ids": ids, "mask": mask} | self._pixels(found)

    def _passes(self) -> list[FrozenPass]:
        model = self.model
        if not is_frozen(model.encoder):
            return []
        if not is_frozen(model.bottleneck):
            return [self._encoder_pass()]
        context = FrozenPass(
            "context",
            modules={
                "encoder": model.encoder,
                "bottleneck": model.bottleneck,
                "condition": model.condition,
            },
            prepare=partial(to_pixels, pixels=model.encoder.pixels),
            compute=self._context,
        )
        return [context]

    def _context(self, pixels: Tensor) -> Tensor:
        conditioning: Any = self.model.condition(self.model.bottleneck(self.model.encoder(pixels)))
        return conditioning.context


_BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))


def _captions(found: Readable) -> Sequence[str]:
    bare = [key for key, words in zip(found.keys, found.captions, strict=True) if words is None]
    if bare:
        raise DataError(
            f"stage 2 learns from captions, and {len(bare)} samples have none, such as {bare[0]!r}",
            hint="use a dataset with captions, such as jsonl",
        )
    return [words for words in found.captions if words is not None]
