"""CLIP's tokenizer: captions to ids of one fixed length, and how many tokens were cut."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import CLIPTokenizer

from vlv_core.errors import ModelError
from vlv_core.hub import one_file
from vlv_plugins._hub import byte_tokenizer, read_tokenizer
from vlv_plugins.stable_diffusion._complete import SPECIALS


class Prompts(NamedTuple):
    """Tokenized captions."""

    ids: Tensor
    """int64 (B, L): start, words, end, padding"""
    ends: Tensor
    """int64 (B,), position of the end token"""
    cut: list[int]
    """tokens of each caption that did not fit"""


class PromptTokenizer:
    """Byte-level BPE with start, end and padding; without files, one token a byte."""

    def __init__(self, specials: Mapping[str, str]) -> None:
        self.specials: dict[str, Any] = {**SPECIALS, **specials}
        self._use(byte_tokenizer(), fallback=True)

    def __call__(self, captions: Sequence[str], *, length: int) -> Prompts:
        rows, ends, cut = [], [], []
        for encoding in self.tokenizer.encode_batch(list(captions), add_special_tokens=False):
            words = encoding.ids[: length - 2]
            padding = [self.pad] * (length - 2 - len(words))
            rows.append([self.start, *words, self.end, *padding])
            ends.append(1 + len(words))
            cut.append(len(encoding.ids) - len(words))
        return Prompts(torch.tensor(rows), torch.tensor(ends), cut)

    def read_published(self, folder: Path) -> None:
        """Read a tokenizer's folder as it is published: tokenizer.json, or vocabulary and merges.

        Raises ModelError for missing files.
        """
        if one_file(folder, "tokenizer.json", "vocab.json").name == "vocab.json":
            one_file(folder, "merges.txt")
        # transformers, for special tokens are matched inside captions too ("!" of version 2).
        if (folder / "tokenizer.json").is_file():
            read_tokenizer(folder / "tokenizer.json")
        published = CLIPTokenizer.from_pretrained(
            str(folder), local_files_only=True, **self.specials
        )
        # Written and read again, for transformers replaces a method of this object.
        self._use(Tokenizer.from_str(published.backend_tokenizer.to_str()))

    def save(self, file: Path) -> None:
        self.tokenizer.save(str(file))

    def load(self, file: Path) -> None:
        """Read what `save` wrote. Raises ModelError if it is missing or damaged."""
        self._use(read_tokenizer(file), fallback=True)

    def _use(self, tokenizer: Tokenizer, *, fallback: bool = False) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.end = self._id("eos_token")
        # The byte tokenizer has an end alone.
        self.start = self._id("bos_token", default=self.end if fallback else None)
        self.pad = self._id("pad_token", default=self.end if fallback else None)

    def _id(self, role: str, default: int | None = None) -> int:
        token = self.specials[role]
        found = self.tokenizer.token_to_id(token)
        if found is None:
            found = default
        if found is None:
            raise ModelError(
                f"the tokenizer has no token {token!r}, which is its {role}",
                hint="is it the tokenizer of the model that the recipe names?",
            )
        return found
