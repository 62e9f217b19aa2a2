"""The condition half: frozen CLIP text encoders that read caption embeddings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vlv_core import Conditioning, Near
from vlv_core.prompts import PromptTokenizer
from vlv_plugins._hub import fill, read_weights
from vlv_plugins.stable_diffusion._complete import ZEROS, check_architecture
from vlv_plugins.stable_diffusion._text import TextEncoder, first_end, text_config
from vlv_plugins.stable_diffusion._tokenizer import ClipTokenizer
from vlv_plugins.stable_diffusion.config import (
    TEXT_STEM,
    StableDiffusion3Config,
    StableDiffusionConfig,
    StableDiffusionXlConfig,
    numbered,
    stems,
)


class ClipCondition(nn.Module):
    """z (B, K, Dz) -> context (B, K, Dz), and pooled (B, P) where text encoders have projections.

    Several text encoders each take a slice of z's width, in order; their outputs are concatenated.
    What a denoiser adds that holds no information, such as padding to another width, is its own
    affair: captioning reads the context too.
    """

    causal = True

    def __init__(
        self,
        encoders: Sequence[TextEncoder],
        tokenizers: Sequence[ClipTokenizer],
        *,
        empty_is_zeros: bool = False,
        variant: str = "",
    ) -> None:
        super().__init__()
        self.text_encoders: Any = nn.ModuleList(encoders)
        self.tokenizers = tuple(tokenizers)
        self.empty_is_zeros = empty_is_zeros
        self.variant = variant
        self.widths = [encoder.width for encoder in encoders]
        self.embedding_dim = self.context_dim = sum(self.widths)
        self.max_queries = min(encoder.length for encoder in encoders)
        self._empty: Conditioning | None = None
        self.register_load_state_dict_post_hook(_forget)

    def forward(self, z: Tensor) -> Conditioning:
        return self._read(z.split(self.widths, dim=2), [None] * len(self.widths))

    def from_text(self, captions: Sequence[str]) -> tuple[Conditioning, list[int]]:
        """Conditioning (B, max_queries, Dc) of captions, and how many tokens of each were cut."""
        rows = [prompt(captions, length=self.max_queries) for prompt in self.prompts]
        cut = [max(counts) for counts in zip(*(each for _, each in rows), strict=True)]
        return self.read_ids(*(torch.from_numpy(ids) for ids, _ in rows)), cut

    def read_ids(self, *ids: Tensor) -> Conditioning:
        """ids (B, max_queries) of each text encoder's `prompts` -> Conditioning."""
        embeddings = [
            encoder.embed(rows) for encoder, rows in zip(self.text_encoders, ids, strict=True)
        ]
        ends = [
            first_end(rows, end=prompt.end) for rows, prompt in zip(ids, self.prompts, strict=True)
        ]
        return self._read(embeddings, ends)

    @property
    def prompts(self) -> tuple[PromptTokenizer, ...]:
        """How captions become ids, one for each text encoder."""
        return tuple(tokenizer.prompts for tokenizer in self.tokenizers)

    @property
    def vocab_sizes(self) -> tuple[int, ...]:
        """Rows of each text encoder's table."""
        return tuple(encoder.vocab_size for encoder in self.text_encoders)

    def unconditional(self, length: int) -> Conditioning:
        """The padded empty prompt's first `length` positions (1, length, Dc); computed once."""
        if self._empty is None:
            self._empty = self._read_empty()
        return self._empty._replace(context=self._empty.context[:, :length])

    def forget(self) -> None:
        """Drop what was computed from weights or tokenizers that have changed."""
        self._empty = None

    def load_pretrained(self, folder: Path) -> set[str]:
        """Read the text encoders and tokenizers of a folder in the layout of diffusers."""
        self.forget()
        filled = set()
        for i, encoder in enumerate(self.text_encoders):
            name = _name("text_encoder", i)
            tensors = read_weights(folder / name, *stems(TEXT_STEM, self.variant))
            # Older files hold the positions' numbers too, which are no parameters.
            tensors = {_published(n): t for n, t in tensors.items() if "position_ids" not in n}
            names = fill(encoder, tensors, where=name)
            filled |= {f"text_encoders.{i}.{each}" for each in names}
            self.tokenizers[i].read_published(folder / _name("tokenizer", i))
        return filled

    def save_assets(self, folder: Path) -> None:
        """Write the tokenizers beside the weights."""
        for i, tokenizer in enumerate(self.tokenizers):
            tokenizer.save(folder / f"{_name('tokenizer', i)}.json")

    def load_assets(self, folder: Path) -> None:
        """Read the tokenizers of a model folder's part."""
        self.forget()
        for i, tokenizer in enumerate(self.tokenizers):
            tokenizer.load(folder / f"{_name('tokenizer', i)}.json")

    def _read(self, slices: Sequence[Tensor], ends: Sequence[Tensor | None]) -> Conditioning:
        outputs = [
            encoder(part, ends=end)
            for encoder, part, end in zip(self.text_encoders, slices, ends, strict=True)
        ]
        pooled = [each for _, each in outputs if each is not None]
        context = torch.cat([hidden for hidden, _ in outputs], dim=2)
        return Conditioning(context, torch.cat(pooled, dim=1) if pooled else None)

    def _read_empty(self) -> Conditioning:
        # Whoever asks first must not decide the dtype, nor whether autograd may use it.
        kind = next(self.parameters()).device.type
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(kind, enabled=False):
            made = self.from_text([""])[0]
            if self.empty_is_zeros:
                made = Conditioning(*(e if e is None else torch.zeros_like(e) for e in made))
        return made

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self.forget()
        return super()._apply(fn, recurse)


def build(config: StableDiffusionConfig, near: Near) -> ClipCondition:
    """Versions 1 and 2: the last layer after the final norm, nothing pooled."""
    del near
    return _assemble(config, projected=[False], penultimate=False)


def build_xl(config: StableDiffusionXlConfig, near: Near) -> ClipCondition:
    """XL: both penultimate layers, pooled from the second text encoder; empty is zeros."""
    del near
    zeros = config.architecture.get(ZEROS, True)
    return _assemble(config, projected=[False, True], penultimate=True, empty_is_zeros=zeros)


def build_3(config: StableDiffusion3Config, near: Near) -> ClipCondition:
    """Version 3: both penultimate layers, pooled from both."""
    del near
    return _assemble(config, projected=[True, True], penultimate=True)


def _assemble(
    config: StableDiffusionConfig,
    *,
    projected: Sequence[bool],
    penultimate: bool,
    empty_is_zeros: bool = False,
) -> ClipCondition:
    check_architecture(config)
    tables, names = config.architecture, numbered("text_encoder", config)
    encoders = [
        TextEncoder(text_config(tables[name], where=name), projected=own, penultimate=penultimate)
        for name, own in zip(names, projected, strict=True)
    ]
    tokenizers = [ClipTokenizer(tables.get(name, {})) for name in numbered("tokenizer", config)]
    return ClipCondition(
        encoders, tokenizers, empty_is_zeros=empty_is_zeros, variant=config.variant
    )


def _forget(condition: ClipCondition, keys: Any) -> None:
    del keys
    condition.forget()


def _name(kind: str, index: int) -> str:
    return kind if index == 0 else f"{kind}_{index + 1}"


def _published(name: str) -> str:
    """Newer files of an encoder without projection leave the common prefix out."""
    return name if name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}"
