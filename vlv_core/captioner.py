"""The captioner that users hold: pictures in, words and pictures out, on any backend.

A backend (torch here, other runtimes elsewhere) runs the graphs; preparation, loops,
randomness and defaults are here once, so that every backend behaves alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vlv_core.errors import UsageError
from vlv_core.generation import GenerationOptions, generate, stream
from vlv_core.preprocess import views
from vlv_core.protocols import Caption, Conditioning, Encoded, Stepper
from vlv_core.randomness import Purpose, normal_rows
from vlv_core.sampling import Schedule, sample
from vlv_core.specs import View

if TYPE_CHECKING:
    from vlv_core.protocols import Array

DEFAULT_NEW_TOKENS = 300
"""the paper's longest caption"""


@dataclass(frozen=True)
class Limits:
    """What a model can hold."""

    max_length: int
    """longest prefix + caption, tokens"""
    max_queries: int
    """longest z"""
    causal: bool
    """whether truncating and mixing z is exact"""


class Backend(Protocol):
    """Runs a model's graphs on numpy arrays."""

    limits: Limits
    eos: tuple[int, ...]
    latent_shape: tuple[int, int, int] | None
    """None if the diffusion is not loaded"""

    def encode(self, view: NDArray[np.uint8]) -> Encoded: ...

    def read(self, z: Array) -> Encoded: ...

    def start(self, prefix: Array, capacity: int) -> Stepper: ...

    def words(self, tokens: Sequence[int]) -> str: ...

    def from_text(self, captions: Sequence[str]) -> Conditioning: ...

    def unconditional(self, length: int) -> Conditioning: ...

    def schedule(self) -> Schedule: ...

    def predict(self, latents: Array, t: Array, conditioning: Conditioning) -> Array: ...

    def decode(self, latents: Array) -> NDArray[np.uint8]: ...


class Captioner:
    """Captions, embeds, redraws and mixes pictures. Not safe for use from two threads at once."""

    def __init__(self, backend: Backend, *, name: str, domain: str, view: View) -> None:
        self.backend = backend
        self.name = name
        """name and content hash of the model, for the rows of a job"""
        self.domain = domain
        """a sentence: what the model has seen"""
        self.view = view

    def encode(self, pictures: Any) -> Encoded:
        """Pictures (paths, PIL images, uint8 arrays; one or many) -> their embeddings.

        Raises DataError for a picture that cannot be read.
        """
        return self.backend.encode(views(pictures, self.view))

    def caption(
        self,
        pictures: Any,
        *,
        options: GenerationOptions | None = None,
        keys: Sequence[int] | None = None,
    ) -> list[Caption]:
        """Captions of pictures, or of what `encode` or `mix` gave, in order.

        `keys`, one a picture, decide the draws when sampling; without them all rows share one.
        """
        if isinstance(pictures, list | tuple | Encoded) and not len(pictures):
            return []
        encoded = self._encoded(pictures)
        options = self.options(encoded, options)
        generated = generate(
            self._stepper(encoded, options),
            eos=self.backend.eos,
            options=options,
            keys=[0] * len(encoded) if keys is None else keys,
        )
        return [
            Caption(self.backend.words(item.tokens), item.tokens, item.finish_reason, item.logprob)
            for item in generated
        ]

    def stream(
        self, picture: Any, *, options: GenerationOptions | None = None, key: int = 0
    ) -> Iterator[str]:
        """The caption of one picture, piece by piece; the pieces join to `caption`'s text."""
        encoded = self._encoded(picture)
        options = self.options(encoded, options)
        tokens: list[int] = []
        written = ""
        for _, token in stream(
            self._stepper(encoded, options), eos=self.backend.eos, options=options, keys=[key]
        ):
            tokens.append(token)
            text = self.backend.words(tokens)
            # Bytes of a character that is not complete yet decode to U+FFFD: wait for the rest.
            if not text.endswith("\ufffd"):
                yield text[len(written) :]
                written = text
        text = self.backend.words(tokens)
        if text != written:
            yield text[len(written) :]

    def reconstruct(
        self,
        pictures: Any,
        *,
        seed: int,
        steps: int = 25,
        guidance: float = 3.0,
        keys: Sequence[int] | None = None,
    ) -> NDArray[np.uint8]:
        """Redraw pictures (or an Encoded, or `from_text`'s Conditioning), uint8 (B, S, S, 3).

        `keys`, one a picture, choose the noise under the seed; without them all rows share one.
        Raises UsageError if the model was loaded without its diffusion.
        """
        shape = self._latent_shape()
        given = pictures if isinstance(pictures, Conditioning) else self._encoded(pictures)
        conditioning = Conditioning(given.context, given.pooled)
        rows, length = conditioning.context.shape[:2]
        empty = self.backend.unconditional(length)
        start = normal_rows(
            seed,
            purpose=Purpose.RECONSTRUCTION,
            step=0,
            keys=[0] * rows if keys is None else keys,
            shape=shape,
        )

        def predict(latents: Array, t: Array, conditional: bool) -> Array:
            return self.backend.predict(latents, t, conditioning if conditional else empty)

        latents = sample(
            predict, noise=start, schedule=self.backend.schedule(), steps=steps, guidance=guidance
        )
        return self.backend.decode(latents)

    def from_text(self, captions: Sequence[str]) -> Conditioning:
        """What the text encoder makes of captions; `reconstruct` draws it."""
        return self.backend.from_text(captions)

    def mix(self, embeddings: Sequence[Array], *, keep: Sequence[int]) -> Encoded:
        """The first keep[i] rows of each z, concatenated (the paper's composition), and read.

        `embeddings`: z of one picture each, (K, Dz) or (1, K, Dz). Raises UsageError if the counts
        do not fit, or if the model is not causal, where a truncated z has another meaning.
        """
        if not self.backend.limits.causal:
            raise UsageError(
                "this model's bottleneck or condition is not causal, so a truncated z is not exact",
                hint="mix needs a model whose parts both declare causal = True",
            )
        pieces = [np.asarray(z).reshape(-1, np.shape(z)[-1]) for z in embeddings]
        _check_mix(pieces, keep, most=self.backend.limits.max_queries)
        parts = [piece[:count] for piece, count in zip(pieces, keep, strict=True)]
        return self.backend.read(np.concatenate(parts)[None])

    def options(self, encoded: Encoded, options: GenerationOptions | None) -> GenerationOptions:
        """The given options, or greedy to the longest caption that this model holds."""
        if options is not None:
            return options
        room = self.backend.limits.max_length - encoded.prefix.shape[1]
        return GenerationOptions(max_new_tokens=min(DEFAULT_NEW_TOKENS, room))

    def _encoded(self, pictures: Any) -> Encoded:
        return pictures if isinstance(pictures, Encoded) else self.encode(pictures)

    def _stepper(self, encoded: Encoded, options: GenerationOptions) -> Stepper:
        length = encoded.prefix.shape[1]
        room = self.backend.limits.max_length - length
        if options.max_new_tokens > room:
            raise UsageError(
                f"max_new_tokens is {options.max_new_tokens}, but this model holds {room} beside "
                f"its prefix of {length}",
                hint=f"use at most {room}",
            )
        return self.backend.start(encoded.prefix, length + options.max_new_tokens)

    def _latent_shape(self) -> tuple[int, int, int]:
        if self.backend.latent_shape is None:
            raise UsageError(
                "this captioner was loaded without its diffusion, so it cannot draw",
                hint='load it with parts="all"',
            )
        return self.backend.latent_shape


def _check_mix(pieces: Sequence[Array], keep: Sequence[int], *, most: int) -> None:
    if not pieces or len(pieces) != len(keep):
        raise UsageError(f"mix got {len(pieces)} embeddings and {len(keep)} counts; give one each")
    for piece, count in zip(pieces, keep, strict=True):
        if not 0 <= count <= len(piece):
            raise UsageError(f"keep is {count}, but the embedding has {len(piece)} rows")
    if not 0 < sum(keep) <= most:
        raise UsageError(f"mix would keep {sum(keep)} rows; this model reads 1 to {most}")
