"""Golden calls of each part: eager inputs and outputs, at shapes other than the traced ones.

Batches are 1, 2, 3 and 7; the other axes change with them. Inputs are what the part meets in use:
pictures, embeddings of pictures, the model's own words; noise for the denoiser alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vlv_core.errors import UsageError, VlvError
from vlv_core.model import VLV
from vlv_core.parts import ExportPart, names
from vlv_core.preprocess import to_pixels
from vlv_core.protocols import Conditioning
from vlv_core.randomness import Purpose, normal_rows
from vlv_core.sampling import timesteps
from vlv_export.golden import Arrays, Case

BATCHES = (1, 2, 3, 7)
FEWER = (1, 2, 3)
"""of parts whose values are large"""
PART_BYTES, MOST_PART_BYTES = 32e6, 96e6
STEPS = {1: 8, 2: 6, 3: 4, 7: 3}
"""decode steps of the head after its prefill, by batch"""


def make_cases(
    model: VLV,
    parts: Sequence[ExportPart],
    backend: Any,
    *,
    views: NDArray[np.uint8],
    z: NDArray[np.float32],
    captions: Sequence[Sequence[int]],
    texts: Sequence[str],
    seed: int,
) -> list[Case]:
    """Cases of all parts, checked against the parts' contracts.

    views (N, S, S, 3), their z (N, K, Dz) and captions; `texts` for the text encoders. Raises
    UsageError for a part whose values are too large to keep.
    """
    eager = _Eager(model, backend, views, z, captions, texts, seed)
    cases = []
    for part in parts:
        make: Callable[[int], Case] = getattr(eager, part.name)
        first = make(1)
        made = [first, *(make(batch) for batch in _batches(first)[1:])]
        for case in made:
            _check(part, case)
        cases += made
    return cases


def _batches(first: Case) -> tuple[int, ...]:
    row = sum(array.nbytes for each in (first.inputs, first.outputs) for array in each.values())
    if row * sum(FEWER) > MOST_PART_BYTES:
        raise UsageError(
            f"part {first.part!r}: its golden values would take {row * sum(FEWER) / 1e6:.0f} MB",
            hint="sizes as large as this are not supported",
        )
    return BATCHES if row * sum(BATCHES) <= PART_BYTES else FEWER


def _check(part: ExportPart, case: Case) -> None:
    """What the eager model was asked must be what the graph is asked. Raises VlvError."""
    if part.name == "head":
        return
    wanted = (set(names(part.inputs)), set(names(part.outputs)))
    if (set(case.inputs), set(case.outputs)) != wanted:
        raise VlvError(
            f"part {part.name!r} declares {sorted(wanted[0])} -> {sorted(wanted[1])}, the eager "
            f"model has {sorted(case.inputs)} -> {sorted(case.outputs)}"
        )


class _Eager:
    """A method a part: batch -> `Case`."""

    def __init__(
        self,
        model: VLV,
        backend: Any,
        views: NDArray[np.uint8],
        z: NDArray[np.float32],
        captions: Sequence[Sequence[int]],
        texts: Sequence[str],
        seed: int,
    ) -> None:
        self.model, self.backend, self.seed = model, backend, seed
        self.views, self.z, self.captions, self.texts = views, z, captions, texts

    def encoder(self, batch: int) -> Case:
        seen = self.views[self._rows(batch, self.views)]
        inputs = {"view": to_pixels(seen, self.model.encoder.pixels)}
        found = self.backend.encode(seen)
        return Case("encoder", f"batch {batch}", inputs, {"z": found.z, **_read(found)})

    def condition(self, batch: int) -> Case:
        z = self._z(batch, self._length(batch))
        title = f"batch {batch}, queries {z.shape[1]}"
        return Case("condition", title, {"z": z}, _read(self.backend.read(z)))

    def text(self, batch: int) -> Case:
        texts = [self.texts[row] for row in self._rows(batch, self.texts)]
        length = self.model.condition.max_queries
        inputs = {
            f"ids.{index}": prompt(texts, length=length)[0]
            for index, prompt in enumerate(self.model.condition.prompts)
        }
        return Case("text", f"batch {batch}", inputs, _given(self.backend.from_text(texts)))

    def head(self, batch: int) -> Case:
        full = self.z.shape[1]
        queries = max(1, full // 2) if batch == 2 else full
        rows = self._rows(batch, self.z)
        prefix = self.backend.read(self.z[rows][:, :queries]).prefix
        steps = min(STEPS[batch], self.model.head.max_length - prefix.shape[1])
        tokens = np.stack([self._tokens(row, steps) for row in rows])
        stepper = self.backend.start(prefix, prefix.shape[1] + steps)
        vocab = self.model.head.vocab_size
        found = [whole(stepper.prefill(vocab), vocab)]
        found += [whole(stepper.step(column, vocab), vocab) for column in tokens.T.copy()]
        title = f"batch {batch}, prefix {prefix.shape[1]}, {steps} steps"
        outputs = {"log_probs": np.stack(found, axis=1)}
        return Case("head", title, {"prefix": prefix, "tokens": tokens}, outputs)

    def denoiser(self, batch: int) -> Case:
        given = self.backend.read(self._z(batch, self._length(batch)))
        times = timesteps(self.backend.schedule(), 25)
        t = times[np.linspace(0, len(times) - 1, batch + 2).astype(int)[1:-1]]
        latents = normal_rows(
            self.seed,
            purpose=Purpose.RECONSTRUCTION,
            step=batch,
            keys=range(batch),
            shape=self.backend.latent_shape,
        )
        answer = self.backend.predict(latents, t, Conditioning(given.context, given.pooled))
        title = f"batch {batch}, context {given.context.shape[1]}"
        inputs = {"latents": latents, "t": t, **_given(given)}
        return Case("denoiser", title, inputs, {"answer": answer})

    @torch.inference_mode()
    def vae_decoder(self, batch: int) -> Case:
        diffusion: Any = self.model.diffusion
        seen = torch.from_numpy(self.views[self._rows(batch, self.views)])
        moments = diffusion.moments(seen.to(self.model.device))
        shape = (batch, *diffusion.latent_shape)
        latents = diffusion.latents(moments, torch.zeros(shape, device=moments.device))
        # Not the backend's: it rounds pictures to uint8, which would hide differences.
        pictures = diffusion.decode(latents).float().cpu().numpy()
        inputs = {"latents": latents.float().cpu().numpy()}
        return Case("vae_decoder", f"batch {batch}", inputs, {"pictures": pictures})

    def _rows(self, batch: int, pool: Any) -> list[int]:
        """Other rows for each batch, as far as there are any."""
        first = sum(each for each in BATCHES if each < batch)
        return [(first + row) % len(pool) for row in range(batch)]

    def _length(self, batch: int) -> int:
        """Queries or context: one, as the model has them, fewer, and the most there can be."""
        own, most = self.z.shape[1], self.model.condition.max_queries
        return {1: 1, 2: own, 3: max(1, own // 2), 7: min(most, 2 * own)}[batch]

    def _z(self, batch: int, length: int) -> NDArray[np.float32]:
        """z (batch, length, Dz): a picture's, mixed with another's where that is not enough."""
        rows = self.z[self._rows(batch, self.z)]
        others = self.z[[(row + 1) % len(self.z) for row in self._rows(batch, self.z)]]
        return np.ascontiguousarray(np.concatenate([rows, others], axis=1)[:, :length])

    def _tokens(self, row: int, steps: int) -> NDArray[np.int64]:
        """The caption's first words; drawn ones where it ends before."""
        draw = np.random.default_rng([self.seed, row])
        drawn = draw.integers(0, self.model.head.vocab_size, steps)
        own = np.array(self.captions[row][:steps], np.int64)
        return np.concatenate([own, drawn[len(own) :]])


def _read(found: Any) -> Arrays:
    return {**_given(found), "prefix": found.prefix}


def _given(found: Any) -> Arrays:
    pooled = {} if found.pooled is None else {"pooled": found.pooled}
    return {"context": found.context, **pooled}


def whole(top: Any, vocab: int) -> NDArray[np.float32]:
    """Log-probabilities (B, V) in the order of ids. Raises VlvError if some are missing."""
    if top.ids.shape[1] != vocab:
        raise VlvError(
            f"the head answers {top.ids.shape[1]} next tokens when asked for all {vocab}",
            hint="its stepper must allow k up to the vocabulary",
        )
    whole = np.empty(top.ids.shape, np.float32)
    np.put_along_axis(whole, top.ids, top.log_probs, axis=1)
    return whole
