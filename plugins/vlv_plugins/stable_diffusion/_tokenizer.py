"""CLIP's tokenizer: its files, and which of its tokens start, end and pad a caption."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import CLIPTokenizer

from vlv_core.errors import ModelError
from vlv_core.hub import one_file
from vlv_core.prompts import PromptTokenizer
from vlv_plugins._hub import byte_tokenizer, read_tokenizer
from vlv_plugins.stable_diffusion._complete import SPECIALS


class ClipTokenizer:
    """Byte-level BPE with start, end and padding; without files, one token a byte."""

    prompts: PromptTokenizer

    def __init__(self, specials: Mapping[str, str]) -> None:
        self.specials: dict[str, Any] = {**SPECIALS, **specials}
        self._use(byte_tokenizer(), fallback=True)

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
        self.prompts.tokenizer.save(str(file))

    def load(self, file: Path) -> None:
        """Read what `save` wrote. Raises ModelError if it is missing or damaged."""
        self._use(read_tokenizer(file), fallback=True)

    def _use(self, tokenizer: Tokenizer, *, fallback: bool = False) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        end = self._id(tokenizer, "eos_token")
        # The byte tokenizer has an end alone.
        default = end if fallback else None
        start = self._id(tokenizer, "bos_token", default=default)
        pad = self._id(tokenizer, "pad_token", default=default)
        self.prompts = PromptTokenizer(tokenizer, start=start, end=end, pad=pad)

    def _id(self, tokenizer: Tokenizer, role: str, *, default: int | None = None) -> int:
        token = self.specials[role]
        found = tokenizer.token_to_id(token)
        if found is None:
            found = default
        if found is None:
            raise ModelError(
                f"the tokenizer has no token {token!r}, which is its {role}",
                hint="is it the tokenizer of the model that the recipe names?",
            )
        return found
