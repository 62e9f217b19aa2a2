"""The backend that runs an artefact's graphs; see `vlv_core.captioner.Backend`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vlv_core.errors import ModelError, UsageError
from vlv_core.files import contained
from vlv_core.preprocess import to_pixels
from vlv_core.prompts import PromptTokenizer
from vlv_core.protocols import Conditioning, Encoded
from vlv_export.facts import TOKENIZER, UNCONDITIONAL, Generation
from vlv_export.runtime.head import Head, HeadStepper

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from vlv_core.protocols import Array
    from vlv_core.sampling import Schedule
    from vlv_core.specs import PixelSpec
    from vlv_export.runtime.compiled import Compiled


class ArtefactBackend:
    """Encoder and head are opened at once, other parts when they are first used."""

    def __init__(
        self, sessions: Compiled, facts: Generation, pixels: PixelSpec, *, drawing: bool
    ) -> None:
        self.sessions = sessions
        self.facts = facts
        self.pixels = pixels
        self.eos = facts.eos
        self.latent_shape = facts.latent_shape if drawing else None
        self.head = Head(sessions, facts)
        self.limits = replace(facts.limits, max_length=self.head.most)
        self.tokenizer = read_tokenizer(sessions.folder, TOKENIZER)
        for part in ("encoder", *(("denoiser", "vae_decoder") if drawing else ())):
            sessions.session(part)

    def encode(self, view: NDArray[np.uint8]) -> Encoded:
        found = self.sessions.run("encoder", {"view": to_pixels(view, self.pixels)})
        return Encoded(found["z"], found["context"], found.get("pooled"), found["prefix"])

    def read(self, z: Array) -> Encoded:
        found = self.sessions.run("condition", {"z": z})
        given = np.asarray(z, np.float32)
        return Encoded(given, found["context"], found.get("pooled"), found["prefix"])

    def start(self, prefix: Array, capacity: int) -> HeadStepper:
        return HeadStepper(self.head, prefix, capacity)

    def words(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(
            list(tokens), skip_special_tokens=self.facts.skip_special_tokens
        )

    def from_text(self, captions: Sequence[str]) -> Conditioning:
        if not self.facts.prompts:
            raise UsageError(
                "this artefact cannot read captions", hint="export again with --reconstruct"
            )
        ids: dict[str, Array] = {}
        for index, prompt in enumerate(self.facts.prompts):
            tokenizer = read_tokenizer(self.sessions.folder, prompt.file)
            read = PromptTokenizer(tokenizer, prompt.start, prompt.end, prompt.pad)
            ids[f"ids.{index}"] = read(captions, length=prompt.length)[0]
        found = self.sessions.run("text", ids)
        return Conditioning(found["context"], found.get("pooled"))

    def unconditional(self, length: int) -> Conditioning:
        from safetensors.numpy import load

        path = contained(self.sessions.folder, UNCONDITIONAL)
        try:
            found = load(path.read_bytes())
            context = found["context"][:, :length]
        except Exception as error:
            raise ModelError(
                f"{path} cannot be read: {error}", hint="copy the artefact again"
            ) from error
        return Conditioning(context, found.get("pooled"))

    def schedule(self) -> Schedule:
        if self.facts.schedule is None:
            raise ModelError("this artefact has no schedule, so it cannot draw")
        return self.facts.schedule.schedule()

    def predict(self, latents: Array, t: Array, conditioning: Conditioning) -> Array:
        rows = len(latents)
        inputs = {
            "latents": latents,
            "t": t,
            "context": _repeated(conditioning.context, rows),
            "pooled": _repeated(conditioning.pooled, rows),
        }
        found = self.sessions.run(
            "denoiser", {name: value for name, value in inputs.items() if value is not None}
        )
        return found["answer"]

    def decode(self, latents: Array) -> NDArray[np.uint8]:
        pictures = self.sessions.run("vae_decoder", {"latents": latents})["pictures"]
        return np.clip(np.round(pictures * 255), 0, 255).astype(np.uint8)


def read_tokenizer(folder: Path, name: str) -> Tokenizer:
    """A tokenizer without truncation and padding. Raises ModelError if it cannot be read."""
    from tokenizers import Tokenizer

    path = contained(folder, name)
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:
        raise ModelError(
            f"{path} is no tokenizer: {error}", hint="copy the artefact again"
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _repeated(array: Any, rows: int) -> Any:
    """One row's array for all rows; None stays None."""
    return None if array is None else np.broadcast_to(array, (rows, *np.shape(array)[1:]))
